#pragma once

// The parts of the AVX-512 kernel table, one function per source file. Internal to this folder.

#include "runtime/kernels/kernel_table.h"

namespace stoker::avx512 {

void AddPanelProducts(KernelTable* table);
void AddScaledProducts(KernelTable* table);
void AddDotF32(KernelTable* table);
void AddPlainPanels(KernelTable* table);

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept;

}  // namespace stoker::avx512
