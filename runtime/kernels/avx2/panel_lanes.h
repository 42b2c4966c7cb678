#pragma once

// The vectors of the panel bodies in runtime/kernels/lanes: eight of a panel's sixteen rows in one
// register. Only for files compiled with the AVX2 flags. The same names as avx512/panel_lanes.h.

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
#include "runtime/kernels/avx2/lanes.h"
#include "runtime/kernels/inline.h"
#include "runtime/kernels/lanes/panel_bytes.h"

namespace stoker::avx2 {

struct PanelLanes : Lanes, PanelBytesOfAnyWidth {
  static constexpr int kRows = 8;
  static constexpr int kBytes = 32;
  static constexpr bool kUnsignedBytes = false;  // pairs of the full range saturate in vpmaddubsw
  static constexpr bool kNibblesInPlace = false;
  using Bytes = __m256i;
  using I32 = __m256i;
  using Scales = __m256i;    // i16, twice for each row
  using Products = __m256i;  // sums of scaled products: i32, vpmaddwd takes the scale on the way
  using Pairs = __m256i;     // i16, two for each row

  static STOKER_INLINE Bytes LoadBytes(const std::byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static STOKER_INLINE void StoreBytes(std::byte* p, Bytes v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static STOKER_INLINE void StoreRow8(std::byte* p, Row8 v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), v);
  }
  // BF16, two columns of every row in one word, widened.
  static STOKER_INLINE void LoadBf16Pairs(const std::byte* p, F32* first, F32* second) {
    const Bytes pairs = LoadBytes(p);
    *first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    *second = _mm256_castsi256_ps(
        _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  // The lower and the upper half of every word, apart.
  static STOKER_INLINE void StoreHalves(std::byte* lower, std::byte* upper, Bytes words) {
    const auto narrow = [](Bytes v) STOKER_INLINE_LAMBDA {  // words below 2^16
      const Bytes packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
      return _mm256_castsi256_si128(packed);
    };
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lower),
                     narrow(_mm256_and_si256(words, _mm256_set1_epi32(0xffff))));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(upper), narrow(_mm256_srli_epi32(words, 16)));
  }
  static STOKER_INLINE F32 Negate(F32 v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }

  // The bits of every byte moved down by kShift (up if negative), under `mask`. Shifts of 16-bit
  // lanes carry bits across bytes, none of which is under the mask.
  template <int kShift>
  static STOKER_INLINE Bytes Bits(Bytes v, int mask) {
    if constexpr (kShift > 0) v = _mm256_srli_epi16(v, kShift);
    if constexpr (kShift < 0) v = _mm256_slli_epi16(v, -kShift);
    return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
  }
  template <int kShift>
  static STOKER_INLINE Bytes OrBits(Bytes to, Bytes v, int mask) {
    return _mm256_or_si256(to, Bits<kShift>(v, mask));
  }
  static STOKER_INLINE Bytes OrMasked(Bytes to, Bytes v, int mask) {
    return _mm256_or_si256(to, _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask))));
  }
  static STOKER_INLINE Bytes SubBytes(Bytes v, int value) {
    return _mm256_sub_epi8(v, _mm256_set1_epi8(static_cast<char>(value)));
  }

  // Rows of sixteen bytes, one for each row of the panel. Vector v holds the rows 2 v and 2 v + 1
  // of four: of `p` each of two rows twice, or one row four times.
  static STOKER_INLINE Bytes LoadOneRow(const std::byte* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static STOKER_INLINE Bytes LoadTwoRows(const std::byte* p, int v) {
    return LoadOneRow(p + v * 16);
  }
  // The bits of row i of four moved up by the i-th number, down if it is negative, across bytes.
  template <int k0, int k1, int k2, int k3>
  static STOKER_INLINE Bytes ShiftRows(Bytes rows, int v) {
    return v == 0 ? ShiftHalves<k0, k1>(rows) : ShiftHalves<k2, k3>(rows);
  }

  static STOKER_INLINE I32 ZeroI32() { return _mm256_setzero_si256(); }
  static STOKER_INLINE I32 SetI32(int value) { return _mm256_set1_epi32(value); }
  static STOKER_INLINE I32 AddI32(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
  static STOKER_INLINE I32 SubI32(I32 a, I32 b) { return _mm256_sub_epi32(a, b); }
  static STOKER_INLINE F32 ToF32(I32 v) { return _mm256_cvtepi32_ps(v); }
  static STOKER_INLINE Products ZeroProducts() { return ZeroI32(); }
  // products - offset * sums, the offset being a power of two.
  static STOKER_INLINE F32 LessSums(Products products, int offset, I32 sums) {
    const int shift = std::countr_zero(static_cast<unsigned>(offset));
    return ToF32(SubI32(products, _mm256_slli_epi32(sums, shift)));
  }

  // From one scale per row.
  static STOKER_INLINE Scales LoadScales(const int8_t* scales) {
    const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales));
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(v, v));
  }
  static STOKER_INLINE void StoreScales(std::byte* p, Scales scales) { StoreBytes(p, scales); }
  static STOKER_INLINE Pairs LoadPairs(const int8_t* first, const int8_t* second) {
    return _mm256_cvtepi8_epi16(
        _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(first)),
                          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second))));
  }
  // to + a row's pair times two neighbouring sums.
  static STOKER_INLINE I32 AddPairs(I32 to, Pairs pairs, const int16_t* sums) {
    int both;
    std::memcpy(&both, sums, sizeof(both));
    return _mm256_add_epi32(to, _mm256_madd_epi16(pairs, _mm256_set1_epi32(both)));
  }

  // Bytes [offset, offset + 16) of eight rows: byte 4 r + c of quads[q] is byte 4 q + c of row r.
  static STOKER_INLINE void LoadQuads(const std::byte* const* rows, int64_t offset, Bytes* quads) {
    const auto load = [&](int r) STOKER_INLINE_LAMBDA {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset));
    };
    __m256i v[4];  // lane k of v[i]: row 4 k + i
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(4 + i), 1);
    }
    const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]);
    const __m256i b = _mm256_unpackhi_epi32(v[0], v[1]);
    const __m256i c = _mm256_unpacklo_epi32(v[2], v[3]);
    const __m256i d = _mm256_unpackhi_epi32(v[2], v[3]);
    quads[0] = _mm256_unpacklo_epi64(a, c);
    quads[1] = _mm256_unpackhi_epi64(a, c);
    quads[2] = _mm256_unpacklo_epi64(b, d);
    quads[3] = _mm256_unpackhi_epi64(b, d);
  }
  // Byte 4 r + c to byte 8 c + r.
  static STOKER_INLINE Bytes ByteRows(Bytes quad) {
    const __m256i by_column = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(quad, by_column),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  template <int kColumn>
  static STOKER_INLINE Row8 Row(Bytes byte_rows) {
    const __m128i pair = _mm256_extracti128_si256(byte_rows, kColumn / 2);
    return kColumn % 2 == 0 ? pair : _mm_unpackhi_epi64(pair, pair);
  }

  static STOKER_INLINE Bytes EightBitCodes(Bytes v) { return v; }
  static STOKER_INLINE Bytes LevelCodes(Bytes nibbles) {
    const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Levels));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), nibbles);
  }

  static STOKER_INLINE __m256i BroadcastQuad(const int8_t* x) {
    int four;
    std::memcpy(&four, x, sizeof(four));
    return _mm256_set1_epi32(four);
  }

  // Products of a quad, summed in pairs: sixteen 16-bit lanes. Unsigned codes of up to 6 bits give
  // at most 2 * 63 * 127; for signed ones the sign moves to the activation, which is never -128, so
  // at most 2 * 128 * 127: neither saturates.
  template <bool kSigned>
  static STOKER_INLINE __m256i PairProducts(__m256i codes, __m256i x) {
    if constexpr (kSigned) {
      return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
    }
    return _mm256_maddubs_epi16(codes, x);
  }

  // Pair products that may be added in 16 bits: n * 2 * (2^bits - 1) * 127 < 2^15.
  static constexpr int PairsIn16Bits(int bits) {
    return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
  }

  // Keeps a sum of products as it is: the compiler would add in a tree, for which it needs all
  // products at once and has no registers.
  static STOKER_INLINE void KeepSum(__m256i& sum) { asm("" : "+x"(sum)); }

  // to + the sum, per row, of codes times x[0, 4 kQuads), times the row's scale.
  template <typename F>
  static STOKER_INLINE Products AddDot(Products to, const Bytes (&codes)[F::kQuads],
                                       const int8_t* x, Scales scales) {
    constexpr int kRun = std::min(F::kQuads, PairsIn16Bits(F::kBits));
    for (int run = 0; run < F::kQuads; run += kRun) {
      __m256i pairs = PairProducts<F::kSigned>(codes[run], BroadcastQuad(x + 4 * run));
      for (int q = run + 1; q < run + kRun; ++q) {
        pairs =
            _mm256_add_epi16(pairs, PairProducts<F::kSigned>(codes[q], BroadcastQuad(x + 4 * q)));
        KeepSum(pairs);
      }
      to = AddI32(to, _mm256_madd_epi16(pairs, scales));
    }
    return to;
  }
  template <typename F>
  static STOKER_INLINE I32 Dot(const Bytes (&codes)[F::kQuads], const int8_t* x) {
    return AddDot<F>(ZeroI32(), codes, x, _mm256_set1_epi16(1));
  }

 private:
  template <int k0, int k1>
  static STOKER_INLINE Bytes ShiftHalves(Bytes v) {
    if constexpr (k0 > 0 || k1 > 0) {
      v = _mm256_sllv_epi64(v, _mm256_setr_epi64x(std::max(k0, 0), std::max(k0, 0),
                                                  std::max(k1, 0), std::max(k1, 0)));
    }
    if constexpr (k0 < 0 || k1 < 0) {
      v = _mm256_srlv_epi64(v, _mm256_setr_epi64x(std::max(-k0, 0), std::max(-k0, 0),
                                                  std::max(-k1, 0), std::max(-k1, 0)));
    }
    return v;
  }
};

}  // namespace stoker::avx2
