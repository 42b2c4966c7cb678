#pragma once

// The parts of the AVX2 kernel table, one function per source file. Internal to this folder.

#include "runtime/kernels/kernel_table.h"

namespace stoker::avx2 {

void AddPanelProducts(KernelTable* table);
void AddDotF32(KernelTable* table);
void AddPlainPanels(KernelTable* table);

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept;

}  // namespace stoker::avx2
