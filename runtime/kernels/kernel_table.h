#pragma once

// The matrix kernels of one instruction set: functions over ranges of weight rows in the file's
// own block layout, and the quantisation of activations. One table per level, chosen once per
// process (CPUID, or STOKER_ISA); the scalar table is the specification of the others. All
// functions are pure, noexcept, allocate nothing and may run on any thread. Weights may have any
// alignment and are never read past their last block.

#include <array>
#include <cstddef>
#include <cstdint>

#include "mmap/dtype.h"
#include "numa/cpu_features.h"
#include "runtime/kernels/activation_rows.h"
#include "runtime/kernels/scaled_group.h"

namespace stoker {

// `n_rows` consecutive rows of a weight matrix, row_bytes apart.
struct WeightRows {
  const std::byte* data = nullptr;
  int64_t row_bytes = 0;
  int64_t n_rows = 0;
};

// Rows that widen_panels puts side by side.
inline constexpr int64_t kWideRows = 64;

// The kernels of one weight type. Of INT8 they take the codes for the weights: the scale of a row
// is multiplied with its results by the caller. All write y[t * y_stride + r] = sum_c W[r, c] x[t,
// c] for t in [0, x.m), r in [0, n_rows). A result depends on its row and its token only: not on
// n_rows, x.m or the position within a range.
struct TypeKernels {
  // Integer activations: exact integer products per 16 or 32 elements, f32 scales and accumulation,
  // the scale of the activations last, once per group.
  // The specification of the two below, and what the scalar level runs; null elsewhere and for F32,
  // F16, BF16.
  void (*dot_q8)(const WeightRows& w, const Q8Rows& x, float* y, int64_t y_stride) noexcept;

  // At most sixteen rows to one panel (panel_layout.h) of 16 * row_bytes bytes, missing rows as
  // zeros. Null in the scalar table, with all that reads panels.
  void (*repack)(const WeightRows& w, int64_t cols, std::byte* panel) noexcept;

  // F32, F16 and BF16, null for others. dot_f32 over consecutive panels that hold n_rows rows, for
  // a few tokens; tolerance as dot_f32's.
  void (*dot_plain)(const std::byte* panels, int64_t n_rows, const F32Rows& x, float* y,
                    int64_t y_stride) noexcept;
  // Columns [first, first + n) of n_panels <= 4 panels, panel_bytes apart, to f32 [n, kWideRows];
  // zeros for rows that are in none. first is a multiple of 4, cols the length of a row.
  void (*widen_panels)(const std::byte* panels, int64_t panel_bytes, int64_t n_panels, int64_t cols,
                       int64_t first, int64_t n, float* to) noexcept;

  // dot_q8 over consecutive panels that hold n_rows rows: they are streamed once per few tokens and
  // unpacked in registers. Tolerance against scalar: 1e-5 of sum |w x|.
  void (*dot_panels)(const std::byte* panels, int64_t n_rows, const Q8Rows& x, float* y,
                     int64_t y_stride) noexcept;

  // The same bits for many tokens: panels are unpacked into `scratch` once and multiplied with all
  // tokens. Worth it from about eight tokens on.
  void (*gemm_panels)(const std::byte* panels, int64_t n_rows, const Q8Rows& x, std::byte* scratch,
                      float* y, int64_t y_stride) noexcept;

  // The same for a matrix unit, which multiplies bytes and nothing else (matmul/scaled_products.h).
  // 0 and null for formats of 32 columns with scales and at levels without AVX-512. Rows are a
  // whole number of groups of 256 columns. Bytes that code times scale takes: planes of a
  // ScaledGroup.
  int planes;
  // From one group of n_panels <= 4 panels, panel_bytes apart.
  void (*scale_panels)(const std::byte* tile, int64_t panel_bytes, int64_t n_panels,
                       ScaledGroup* to) noexcept;
  // totals += (of group 0: totals =) what this group's products come to, for all rows of `w`:
  // products[plane * plane_stride + t * kScaledRows + r] is the sum over c of planes[plane][r, c]
  // (code[t, c] + kCodeOffset). The bits of gemm_panels where every partial sum of code times scale
  // times code is below 2^24 in magnitude, as all but constructed rows have it: here the sums are
  // integers. products is aligned to a vector.
  void (*add_scaled)(const ScaledGroup& w, const int32_t* products, int64_t plane_stride,
                     const Q8Rows& x, int64_t group, float* totals,
                     int64_t totals_stride) noexcept;

  // f32 activations, f32 products and accumulation in several lanes. Tolerance against scalar
  // (f64 accumulation): 2e-6 of sum |w x|.
  void (*dot_f32)(const WeightRows& w, const F32Rows& x, float* y, int64_t y_stride) noexcept;

  bool supported() const { return dot_f32 != nullptr; }
};

struct KernelTable {
  IsaLevel level;

  // Quantises a group: n values (a multiple of 32, at most 256) into 256 codes, a scale and sums as
  // Q8Rows holds them, zeros behind n. scale = max|x| / 127, code = x * (127 / max|x|) rounded to
  // nearest even. A group that holds an infinity or a NaN gets zero codes and a NaN scale, so that
  // it shows in every result. The same bytes at every level.
  void (*quantize_q8)(const float* x, int64_t n, int8_t* codes, float* scale,
                      int16_t* sums) noexcept;

  // Bytes of scratch (64-byte aligned, one per thread) that gemm_panels needs.
  int64_t gemm_scratch_bytes;

  std::array<TypeKernels, static_cast<size_t>(DType::kCount)> types;

  const TypeKernels& For(DType type) const { return types[static_cast<size_t>(type)]; }
  TypeKernels& For(DType type) { return types[static_cast<size_t>(type)]; }
};

// The table of a level. The machine must have that level.
const KernelTable& KernelsFor(IsaLevel level) noexcept;

// The table of ActiveIsaLevel(). Throws, at the first call only, what ActiveIsaLevel throws.
const KernelTable& ActiveKernels();

}  // namespace stoker
