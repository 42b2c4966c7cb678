#pragma once

// The function tables that each instruction set's files define. For the dispatching sources and the
// instruction-set files only; everyone else uses kernel_table.h,
// vector_ops.h and attention_ops.h.

#include "runtime/kernels/attention_ops.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker::scalar {
extern const VectorOps kVectorOps;
extern const AttentionOps kAttentionOps;
const KernelTable& Kernels() noexcept;
}  // namespace stoker::scalar

namespace stoker::avx2 {
extern const VectorOps kVectorOps;
extern const AttentionOps kAttentionOps;
const KernelTable& Kernels() noexcept;
}  // namespace stoker::avx2

namespace stoker::avx512 {
extern const VectorOps kVectorOps;
extern const AttentionOps kAttentionOps;
const KernelTable& Kernels() noexcept;
}  // namespace stoker::avx512
