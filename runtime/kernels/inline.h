#pragma once

// STOKER_INLINE: for the small parts of kernels whose vectors must stay in registers, which the
// compiler would otherwise put out of line where a body has many of them. STOKER_KEEP_ORDER:
// between two steps of such a body; left alone the compiler moves the loads of later steps forward
// until vectors no longer fit the registers.

#include <cstdint>
#include <type_traits>
#include <utility>

#define STOKER_INLINE inline __attribute__((always_inline))
// The same behind the parameters of a lambda.
#define STOKER_INLINE_LAMBDA __attribute__((always_inline))
#define STOKER_KEEP_ORDER() asm volatile("" ::: "memory")

namespace stoker {

// f(std::integral_constant<int, 0>) .. f(.. kCount - 1): the index is a constant in each.
template <int kCount, typename F>
STOKER_INLINE void ForConstants(F&& f) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) STOKER_INLINE_LAMBDA {
    (f(std::integral_constant<int, kIndex>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

// f(std::integral_constant<int, n>) for an n of 1 .. kMost that is known when it runs.
template <int kMost, typename F>
void ForCount(int64_t n, F&& f) {
  if (n == kMost) {
    f(std::integral_constant<int, kMost>{});
  } else if constexpr (kMost > 1) {
    ForCount<kMost - 1>(n, f);
  }
}

}  // namespace stoker
