#pragma once

// How kernels see token rows: plain pointers and strides, borrowed from Activations
// (runtime/matmul/activations.h), which owns the bytes. Values, freely copied.

#include <cstdint>

namespace stoker {

// Weights and activations are walked in groups of 256 elements, the super-block of the K formats.
// Rows whose length is another multiple of 32 are padded with zero codes to whole groups.
inline constexpr int64_t kGroup = 256;
inline constexpr int64_t kSubBlock = 16;  // the fewest elements that share a weight scale
inline constexpr int64_t kSubBlocksPerGroup = 16;
// Of a group: the sums of every 16 codes, then those of every 32.
inline constexpr int64_t kSumsPerGroup = kSubBlocksPerGroup + kSubBlocksPerGroup / 2;

// A group of activations whose largest magnitude is below this becomes zero: the reciprocal
// 127 / max would overflow.
inline constexpr float kSmallestQ8Max = 1e-35f;

struct F32Rows {
  const float* x = nullptr;  // [m, k], rows `stride` elements apart
  int64_t stride = 0;
  int64_t m = 0;
  int64_t k = 0;
};

// bf16 rows `stride` elements apart. Of a row in parts: kBf16Parts rows whose sum it is, as far as
// f32 has bits, each what those before it left, rounded to bf16.
inline constexpr int64_t kBf16Parts = 3;
struct Bf16Rows {
  const uint16_t* x = nullptr;  // [m, k]
  int64_t stride = 0;
  int64_t m = 0;
  int64_t k = 0;
};

// Integer activations: x[i] = scale * code with one scale per group of 256 elements, code in
// [-127, 127]. With the sums of the codes a weight format's minima and code offsets cost integer
// products of a sixteenth or a thirty-second of the length. Everything is in the order of the row.
struct Q8Rows {
  int8_t* codes = nullptr;   // [m, n_groups * 256], rows code_stride apart
  float* scales = nullptr;   // [m, n_groups], rows scale_stride apart
  int16_t* sums = nullptr;   // [m, n_groups, kSumsPerGroup], rows sum_stride apart
  int64_t code_stride = 0;   // elements, as the others
  int64_t scale_stride = 0;
  int64_t sum_stride = 0;
  int64_t m = 0;
  int64_t k = 0;
  int64_t n_groups = 0;
};

// Rows [first, first + count) of `rows`.
inline Q8Rows SliceRows(const Q8Rows& rows, int64_t first, int64_t count) {
  Q8Rows slice = rows;
  slice.codes += first * rows.code_stride;
  slice.scales += first * rows.scale_stride;
  slice.sums += first * rows.sum_stride;
  slice.m = count;
  return slice;
}

inline F32Rows SliceRows(const F32Rows& rows, int64_t first, int64_t count) {
  return {rows.x + first * rows.stride, rows.stride, count, rows.k};
}

inline Bf16Rows SliceRows(const Bf16Rows& rows, int64_t first, int64_t count) {
  return {rows.x + first * rows.stride, rows.stride, count, rows.k};
}

}  // namespace stoker
