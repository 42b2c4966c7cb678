#pragma once

// What the panel lanes of every vector width have in common: prefetches, and the sixteen or eight
// bytes of one row of scales (Row8). Only for files compiled with a vector level's flags.

#include <immintrin.h>

#include <cstddef>

#include "runtime/kernels/inline.h"

namespace stoker {

struct PanelBytesOfAnyWidth {
  using Row8 = __m128i;

  static STOKER_INLINE void PrefetchToL1(const std::byte* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
  }
  static STOKER_INLINE void PrefetchToL2(const std::byte* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
  }
  // The bits of every byte moved down by kShift (up if negative), under `mask`.
  template <int kShift>
  static STOKER_INLINE Row8 Bits8(Row8 v, int mask) {
    if constexpr (kShift > 0) v = _mm_srli_epi16(v, kShift);
    if constexpr (kShift < 0) v = _mm_slli_epi16(v, -kShift);
    return _mm_and_si128(v, _mm_set1_epi8(static_cast<char>(mask)));
  }
  static STOKER_INLINE Row8 Or8(Row8 a, Row8 b) { return _mm_or_si128(a, b); }
};

}  // namespace stoker
