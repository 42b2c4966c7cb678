#pragma once

// The vectors of the panel bodies in runtime/kernels/lanes: all sixteen rows of a panel in one
// register. Only for files compiled with the AVX-512 flags. The same names as avx2/panel_lanes.h.

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
#include "runtime/kernels/avx512/lanes.h"
#include "runtime/kernels/inline.h"
#include "runtime/kernels/lanes/panel_bytes.h"

namespace stoker::avx512 {

struct PanelLanes : Lanes, PanelBytesOfAnyWidth {
  static constexpr int kRows = 16;
  static constexpr int kBytes = 64;
  static constexpr bool kUnsignedBytes = true;  // vpdpbusd takes u8 x s8 of the full range
  static constexpr bool kNibblesInPlace = true;
  using Bytes = __m512i;
  using I32 = __m512i;
  using Scales = __m512;
  using Products = __m512;  // sums of scaled products: a multiply-add costs less than vpmulld
  using Pairs = __m512i;    // i16, two for each row

  static STOKER_INLINE Bytes LoadBytes(const std::byte* p) {
    __m512i v = _mm512_loadu_si512(p);
    // Keeps the compiler from reading memory again for every use: a vector's codes are taken out of
    // it by two or four instructions, and a core makes one load of this width per cycle.
    asm("" : "+v"(v));
    return v;
  }
  static STOKER_INLINE void StoreBytes(std::byte* p, Bytes v) { _mm512_storeu_si512(p, v); }
  static STOKER_INLINE void StoreRow8(std::byte* p, Row8 v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
  }
  // BF16, two columns of every row in one word, widened.
  static STOKER_INLINE void LoadBf16Pairs(const std::byte* p, F32* first, F32* second) {
    const Bytes pairs = LoadBytes(p);
    *first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *second = _mm512_castsi512_ps(
        _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  // The lower and the upper half of every word, apart.
  static STOKER_INLINE void StoreHalves(std::byte* lower, std::byte* upper, Bytes words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lower), _mm512_cvtepi32_epi16(words));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(upper),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
  }
  static STOKER_INLINE F32 Negate(F32 v) { return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f)); }

  // The bits of every byte moved down by kShift (up if negative), under `mask`. Shifts of 16-bit
  // lanes carry bits across bytes, none of which is under the mask.
  template <int kShift>
  static STOKER_INLINE Bytes Shift(Bytes v) {
    if constexpr (kShift > 0) {
      return _mm512_srli_epi16(v, kShift);
    } else if constexpr (kShift < 0) {
      return _mm512_slli_epi16(v, -kShift);
    } else {
      return v;
    }
  }
  template <int kShift>
  static STOKER_INLINE Bytes Bits(Bytes v, int mask) {
    return _mm512_and_si512(Shift<kShift>(v), _mm512_set1_epi8(static_cast<char>(mask)));
  }
  template <int kShift>
  static STOKER_INLINE Bytes OrBits(Bytes to, Bytes v, int mask) {
    return OrMasked(to, Shift<kShift>(v), mask);
  }
  static STOKER_INLINE Bytes OrMasked(Bytes to, Bytes v, int mask) {
    return _mm512_ternarylogic_epi64(to, v, _mm512_set1_epi8(static_cast<char>(mask)), 0xf8);
  }
  static STOKER_INLINE Bytes SubBytes(Bytes v, int value) {
    return _mm512_sub_epi8(v, _mm512_set1_epi8(static_cast<char>(value)));
  }

  // Rows of sixteen bytes, one for each row of the panel: one row four times, or two rows each
  // twice; v is 0, there being one vector of four rows.
  static STOKER_INLINE Bytes LoadOneRow(const std::byte* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static STOKER_INLINE Bytes LoadTwoRows(const std::byte* p, int /*v*/) {
    const __m512i rows =
        _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_shuffle_i64x2(rows, rows, 0x50);
  }
  // The bits of row i of four moved up by the i-th number, down if it is negative, across bytes.
  template <int k0, int k1, int k2, int k3>
  static STOKER_INLINE Bytes ShiftRows(Bytes rows, int /*v*/) {
    if constexpr (k0 > 0 || k1 > 0 || k2 > 0 || k3 > 0) {
      rows = _mm512_sllv_epi64(rows, Counts(std::max(k0, 0), std::max(k1, 0), std::max(k2, 0),
                                            std::max(k3, 0)));
    }
    if constexpr (k0 < 0 || k1 < 0 || k2 < 0 || k3 < 0) {
      rows = _mm512_srlv_epi64(rows, Counts(std::max(-k0, 0), std::max(-k1, 0), std::max(-k2, 0),
                                            std::max(-k3, 0)));
    }
    return rows;
  }

  static STOKER_INLINE I32 ZeroI32() { return _mm512_setzero_si512(); }
  static STOKER_INLINE I32 SetI32(int value) { return _mm512_set1_epi32(value); }
  static STOKER_INLINE I32 AddI32(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
  static STOKER_INLINE I32 SubI32(I32 a, I32 b) { return _mm512_sub_epi32(a, b); }
  static STOKER_INLINE F32 ToF32(I32 v) { return _mm512_cvtepi32_ps(v); }
  static STOKER_INLINE F32 ToF32(Products v) { return v; }
  static STOKER_INLINE Products ZeroProducts() { return Zero(); }
  // products - offset * sums.
  static STOKER_INLINE F32 LessSums(Products products, int offset, I32 sums) {
    return NegMulAdd(Set(static_cast<float>(offset)), ToF32(sums), products);
  }

  // From one scale per row.
  static STOKER_INLINE Scales LoadScales(const int8_t* scales) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales))));
  }
  static STOKER_INLINE void StoreScales(std::byte* p, Scales scales) {
    _mm512_store_ps(p, scales);
  }
  static STOKER_INLINE Pairs LoadPairs(const int8_t* first, const int8_t* second) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
    return _mm512_cvtepi8_epi16(
        _mm256_setr_m128i(_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)));
  }
  // to + a row's pair times two neighbouring sums.
  static STOKER_INLINE I32 AddPairs(I32 to, Pairs pairs, const int16_t* sums) {
    int both;
    std::memcpy(&both, sums, sizeof(both));
    return _mm512_dpwssd_epi32(to, pairs, _mm512_set1_epi32(both));
  }

  // Bytes [offset, offset + 16) of sixteen rows: byte 4 r + c of quads[q] is byte 4 q + c of row r.
  static STOKER_INLINE void LoadQuads(const std::byte* const* rows, int64_t offset, Bytes* quads) {
    const auto load = [&](int r) STOKER_INLINE_LAMBDA {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset));
    };
    __m512i v[4];  // lane k of v[i]: row 4 k + i
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm512_castsi128_si512(load(i));
      v[i] = _mm512_inserti32x4(v[i], load(4 + i), 1);
      v[i] = _mm512_inserti32x4(v[i], load(8 + i), 2);
      v[i] = _mm512_inserti32x4(v[i], load(12 + i), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]);
    const __m512i b = _mm512_unpackhi_epi32(v[0], v[1]);
    const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]);
    const __m512i d = _mm512_unpackhi_epi32(v[2], v[3]);
    quads[0] = _mm512_unpacklo_epi64(a, c);
    quads[1] = _mm512_unpackhi_epi64(a, c);
    quads[2] = _mm512_unpacklo_epi64(b, d);
    quads[3] = _mm512_unpackhi_epi64(b, d);
  }
  // Byte 4 r + c to byte 16 c + r.
  static STOKER_INLINE Bytes ByteRows(Bytes quad) {
    const __m512i by_column =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(lanes, _mm512_shuffle_epi8(quad, by_column));
  }
  template <int kColumn>
  static STOKER_INLINE Row8 Row(Bytes byte_rows) {
    return _mm512_extracti32x4_epi32(byte_rows, kColumn);
  }

  // Stored int8 and the levels of IQ4 nibbles, both with 128 added.
  static STOKER_INLINE Bytes EightBitCodes(Bytes v) {
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
  }
  static STOKER_INLINE Bytes LevelCodes(Bytes nibbles) {
    const __m128i levels = _mm_xor_si128(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Levels)), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), nibbles);
  }

  static STOKER_INLINE __m512i BroadcastQuad(const int8_t* x) {
    int four;
    std::memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
  }

  // Per row, the sum of codes times x[0, 4 kQuads); codes as PanelFormat::LoadForDot gives them.
  template <typename F>
  static STOKER_INLINE I32 Dot(const Bytes (&codes)[F::kQuads], const int8_t* x) {
    // The upper nibbles, times sixteen, have a sum of their own.
    constexpr int kSums = F::kNibblesInPlace ? 2 : 1;
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int q = 0; q < F::kQuads; ++q) {
      __m512i& to = sum[q * kSums / F::kQuads];
      to = _mm512_dpbusd_epi32(to, codes[q], BroadcastQuad(x + 4 * q));
    }
    if constexpr (F::kNibblesInPlace) return _mm512_add_epi32(sum[0], _mm512_srai_epi32(sum[1], 4));
    return sum[0];
  }
  // to + the same times the row's scale.
  template <typename F>
  static STOKER_INLINE Products AddDot(Products to, const Bytes (&codes)[F::kQuads],
                                       const int8_t* x, Scales scales) {
    return MulAdd(ToF32(Dot<F>(codes, x)), scales, to);
  }

 private:
  static STOKER_INLINE __m512i Counts(int64_t r0, int64_t r1, int64_t r2, int64_t r3) {
    return _mm512_setr_epi64(r0, r0, r1, r1, r2, r2, r3, r3);
  }
};

}  // namespace stoker::avx512
