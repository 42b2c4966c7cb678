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
  static STOKER_INLINE void StoreBytes(std::byte* p, Bytes v) { _mm512_store_si512(p, v); }
  static STOKER_INLINE Row8 LoadRow8(const std::byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
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
