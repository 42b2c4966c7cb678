#pragma once

// Weights as a matrix unit multiplies them: one group of 256 columns of at most 64 rows of a
// super-block format, every code times the integer scale of its span, so that the products of a
// whole group are one sum of int8 products. Where code times scale needs more than eight bits it is
// cut in two: w = 128 * planes[0] + planes[1]. Made by TypeKernels::scale_panels, read by
// add_scaled (kernel_table.h). A value.
//
// The matrix unit takes u8 activations, so 128 is added to their codes; `offset` is what that adds
// to a row's sum.

#include <cstdint>

#include "runtime/kernels/activation_rows.h"
#include "runtime/kernels/panel_layout.h"

namespace stoker {

inline constexpr int64_t kScaledRows = 64;
inline constexpr int64_t kPlaneFactor = 128;
inline constexpr int kCodeOffset = 128;

struct ScaledGroup {
  // [plane][column / 4][row][column % 4], what oneDNN calls packed by 32 bits. A format of one
  // plane leaves the second as it is.
  alignas(64) int8_t planes[2][kGroup / 4][kScaledRows][4];
  alignas(64) float d[kScaledRows];
  alignas(64) float minimum[kScaledRows];
  alignas(64) int32_t offset[kScaledRows];
  // [panel][pair of spans][row of the panel][span of the pair]: the minima, for formats with them.
  alignas(64) int16_t minima[kScaledRows / kPanelRows][8][kPanelRows][2];
};

}  // namespace stoker
