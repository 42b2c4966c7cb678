#pragma once

// Dequantisation of rows to f32: the definition of what each block format means. Scalar, plain,
// and the oracle of every kernel. Pure, thread-safe, no allocation. For the fast forms that the
// matrix kernels use see kernel_table.h.

#include <cstddef>
#include <cstdint>

#include "mmap/dtype.h"

namespace stoker {

// out[0, n) = the n elements of type `type` that start at `row` (any alignment). n is a multiple of
// the type's block length; the type is one with Info(type).computable. Of kInt8Row the codes: what
// they are times the scale of their row is the caller's.
void DequantizeRow(DType type, const std::byte* row, float* out, int64_t n);

}  // namespace stoker
