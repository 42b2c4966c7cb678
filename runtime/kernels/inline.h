#pragma once

// STOKER_INLINE: for the small parts of kernels whose vectors must stay in registers, which the
// compiler would otherwise put out of line where a body has many of them. STOKER_KEEP_ORDER:
// between two steps of such a body; left alone the compiler moves the loads of later steps forward
// until vectors no longer fit the registers.

#define STOKER_INLINE inline __attribute__((always_inline))
// The same behind the parameters of a lambda.
#define STOKER_INLINE_LAMBDA __attribute__((always_inline))
#define STOKER_KEEP_ORDER() asm volatile("" ::: "memory")
