// The specification of kernel_table.h: short and obvious, never optimised.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "runtime/kernels/dequantize.h"
#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/scalar/unpack.h"

namespace stoker::scalar {
namespace {

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept {
  float max = 0.0f;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    max = std::max(max, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  const bool zero = !finite || max < kSmallestQ8Max;
  const float inverse = zero ? 0.0f : 127.0f / max;
  *scale = !finite ? std::numeric_limits<float>::quiet_NaN() : zero ? 0.0f : max / 127.0f;
  std::fill(sums, sums + kSumsPerGroup, int16_t{0});
  for (int64_t i = 0; i < kGroup; ++i) {
    const int code = zero || i >= n ? 0 : static_cast<int>(std::nearbyint(x[i] * inverse));
    codes[i] = static_cast<int8_t>(code);
    for (int16_t* sum : {&sums[i / 16], &sums[kSubBlocksPerGroup + i / 32]}) {
      *sum = static_cast<int16_t>(*sum + code);
    }
  }
}

template <DType kType>
void DotQ8(const WeightRows& w, const Q8Rows& x, float* y, int64_t y_stride) noexcept {
  const int64_t group_bytes = w.row_bytes * kGroup / x.k;
  for (int64_t r = 0; r < w.n_rows; ++r) {
    for (int64_t t = 0; t < x.m; ++t) y[t * y_stride + r] = 0.0f;
    for (int64_t g = 0; g < x.n_groups; ++g) {
      UnpackedGroup group;
      UnpackGroup(kType, w.data + r * w.row_bytes + g * group_bytes,
                  std::min<int64_t>(kGroup, x.k - g * kGroup), &group);
      for (int64_t t = 0; t < x.m; ++t) {
        const int8_t* codes = x.codes + t * x.code_stride + g * kGroup;
        const int16_t* sums = x.sums + t * x.sum_stride + g * kSumsPerGroup;
        float sum = 0.0f;
        for (int s = 0; s < 16; ++s) {
          int product = 0;
          for (int j = 0; j < 16; ++j) product += group.codes[16 * s + j] * codes[16 * s + j];
          sum += group.scale[s] * static_cast<float>(product) + group.add[s] * sums[s];
        }
        y[t * y_stride + r] += x.scales[t * x.scale_stride + g] * sum;
      }
    }
  }
}

template <DType kType>
void DotF32(const WeightRows& w, const F32Rows& x, float* y, int64_t y_stride) noexcept {
  constexpr int64_t kChunk = 256;
  std::array<float, kChunk> weights;
  for (int64_t r = 0; r < w.n_rows; ++r) {
    for (int64_t t = 0; t < x.m; ++t) {
      double sum = 0.0;
      for (int64_t i = 0; i < x.k; i += kChunk) {
        const int64_t n = std::min(kChunk, x.k - i);
        DequantizeRow(kType, w.data + r * w.row_bytes + i * w.row_bytes / x.k, weights.data(), n);
        const float* token = x.x + t * x.stride + i;
        for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(weights[j]) * token[j];
      }
      y[t * y_stride + r] = static_cast<float>(sum);
    }
  }
}

template <DType... kTypes>
void AddQuantized(KernelTable* table) {
  ((table->For(kTypes).dot_q8 = DotQ8<kTypes>), ...);
  ((table->For(kTypes).dot_f32 = DotF32<kTypes>), ...);
}

KernelTable MakeTable() {
  KernelTable table{};
  table.level = IsaLevel::kScalar;
  table.quantize_q8 = QuantizeQ8;
  table.For(DType::kF32).dot_f32 = DotF32<DType::kF32>;
  table.For(DType::kF16).dot_f32 = DotF32<DType::kF16>;
  table.For(DType::kBF16).dot_f32 = DotF32<DType::kBF16>;
  AddQuantized<DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,
               DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL,
               DType::kIQ4_XS, DType::kInt8Row>(&table);
  return table;
}

}  // namespace

const KernelTable& Kernels() noexcept {
  static const KernelTable table = MakeTable();
  return table;
}

}  // namespace stoker::scalar
