#pragma once

// The vectors of the panel bodies in runtime/kernels/lanes: all sixteen rows of a panel in one
// register. Only for files compiled with the AVX-512 flags. The same names as avx2/panel_lanes.h.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
#include "runtime/kernels/avx512/lanes.h"
#include "runtime/kernels/inline.h"

namespace stoker::avx512 {

struct PanelLanes : Lanes {
  static constexpr int kRows = 16;
  static constexpr int kBytes = 64;
  static constexpr bool kUnsignedBytes = true;  // vpdpbusd takes u8 x s8 of the full range
  using Bytes = __m512i;
  using Row8 = __m128i;

  static STOKER_INLINE void Prefetch(const std::byte* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
  }
  static STOKER_INLINE Bytes LoadBytes(const std::byte* p) { return _mm512_loadu_si512(p); }
  static STOKER_INLINE void StoreBytes(std::byte* p, Bytes v) { _mm512_storeu_si512(p, v); }
  static STOKER_INLINE Row8 LoadRow8(const std::byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static STOKER_INLINE void StoreRow8(std::byte* p, Row8 v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
  }
  static STOKER_INLINE F32 LoadHalves(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
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
    return _mm512_ternarylogic_epi64(to, Shift<kShift>(v),
                                     _mm512_set1_epi8(static_cast<char>(mask)), 0xf8);
  }
  template <int kShift>
  static STOKER_INLINE Row8 Bits8(Row8 v, int mask) {
    if constexpr (kShift > 0) v = _mm_srli_epi16(v, kShift);
    if constexpr (kShift < 0) v = _mm_slli_epi16(v, -kShift);
    return _mm_and_si128(v, _mm_set1_epi8(static_cast<char>(mask)));
  }
  static STOKER_INLINE Row8 Or8(Row8 a, Row8 b) { return _mm_or_si128(a, b); }
  static STOKER_INLINE Row8 Sub8(Row8 v, int value) {
    return _mm_sub_epi8(v, _mm_set1_epi8(static_cast<char>(value)));
  }
  static STOKER_INLINE F32 FromUnsigned(Row8 v) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(v));
  }
  static STOKER_INLINE F32 FromSigned(Row8 v) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v));
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

  // Per row, the sum of codes times x[0, 4 kQuads).
  template <int kBits, bool kSigned, int kQuads>
  static STOKER_INLINE F32 Dot(const Bytes (&codes)[kQuads], const int8_t* x) {
    __m512i sum = _mm512_setzero_si512();
    for (int q = 0; q < kQuads; ++q) {
      sum = _mm512_dpbusd_epi32(sum, codes[q], BroadcastQuad(x + 4 * q));
    }
    return _mm512_cvtepi32_ps(sum);
  }
};

}  // namespace stoker::avx512
