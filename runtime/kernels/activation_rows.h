#pragma once

// How kernels see token rows: plain pointers and strides, borrowed from Activations
// (runtime/matmul/activations.h), which owns the bytes. Values, freely copied.

#include <cstdint>

namespace stoker {

// Weights and activations are walked in groups of 256 elements, the super-block of the K formats.
// Rows whose length is another multiple of 32 are padded with zero codes to whole groups.
inline constexpr int64_t kGroup = 256;
inline constexpr int64_t kSubBlock = 16;  // scales and sums are per 16 elements
inline constexpr int64_t kSubBlocksPerGroup = 16;

// A block of 32 activations whose largest magnitude is below this becomes zero: the reciprocal
// 127 / max would overflow.
inline constexpr float kSmallestQ8Max = 1e-35f;

struct F32Rows {
  const float* x = nullptr;  // [m, k], rows `stride` elements apart
  int64_t stride = 0;
  int64_t m = 0;
  int64_t k = 0;
};

// Integer activations: x[i] = scale * code with one scale per 32 elements, code in [-127, 127].
// Scales are stored per 16 elements (each twice), so that weights whose scales are per 16 or per 32
// elements index them alike. `sums` is scale * (sum of 16 codes): with it a weight format's minimum
// or code offset costs one multiply-add. Everything is in the order of the row.
struct Q8Rows {
  int8_t* codes = nullptr;   // [m, padded_k], rows code_stride apart
  float* scales = nullptr;   // [m, padded_k / 16], rows side_stride apart
  float* sums = nullptr;     // [m, padded_k / 16], rows side_stride apart
  int64_t code_stride = 0;   // elements
  int64_t side_stride = 0;   // elements
  int64_t m = 0;
  int64_t k = 0;
  int64_t n_groups = 0;      // padded_k / 256
};

// Rows [first, first + count) of `rows`.
inline Q8Rows SliceRows(const Q8Rows& rows, int64_t first, int64_t count) {
  Q8Rows slice = rows;
  slice.codes += first * rows.code_stride;
  slice.scales += first * rows.side_stride;
  slice.sums += first * rows.side_stride;
  slice.m = count;
  return slice;
}

inline F32Rows SliceRows(const F32Rows& rows, int64_t first, int64_t count) {
  return {rows.x + first * rows.stride, rows.stride, count, rows.k};
}

}  // namespace stoker
