#pragma once

// STOKER_INLINE: for the small parts of kernels whose vectors must stay in registers, which the
// compiler would otherwise put out of line where a body has many of them. STOKER_KEEP_ORDER:
// between two steps of such a body; left alone the compiler moves the loads of later steps forward
// until vectors no longer fit the registers.

#define STOKER_INLINE inline __attribute__((always_inline))
// The same behind the parameters of a lambda.
#define STOKER_INLINE_LAMBDA __attribute__((always_inline))
#define STOKER_KEEP_ORDER() asm volatile("" ::: "memory")

#include <utility>

namespace stoker {

// f(std::integral_constant<int, 0>) .. f(.. kCount - 1): the index is a constant in each.
template <int kCount, typename F>
STOKER_INLINE void ForConstants(F&& f) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) STOKER_INLINE_LAMBDA {
    (f(std::integral_constant<int, kIndex>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

}  // namespace stoker
