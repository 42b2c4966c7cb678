#include "tests/runtime/kernels/random_weights.h"

#include <cmath>
#include <cstring>

#include "mmap/block_formats.h"
#include "mmap/half.h"
#include "numa/check.h"

namespace stoker::test {
namespace {

// Byte offsets of the f16 fields of a block; -1 where there is none.
struct HalfOffsets {
  int first;
  int second;
};

HalfOffsets OffsetsOf(DType type) {
  switch (type) {
    case DType::kQ4_1: return {offsetof(BlockQ4_1, d), offsetof(BlockQ4_1, m)};
    case DType::kQ5_1: return {offsetof(BlockQ5_1, d), offsetof(BlockQ5_1, m)};
    case DType::kQ2_K: return {offsetof(BlockQ2_K, d), offsetof(BlockQ2_K, dmin)};
    case DType::kQ3_K: return {offsetof(BlockQ3_K, d), -1};
    case DType::kQ4_K: return {offsetof(BlockQ4_K, d), offsetof(BlockQ4_K, dmin)};
    case DType::kQ5_K: return {offsetof(BlockQ5_K, d), offsetof(BlockQ5_K, dmin)};
    case DType::kQ6_K: return {offsetof(BlockQ6_K, d), -1};
    default: return {0, -1};
  }
}

template <typename T>
void Put(std::byte* address, T value) {
  std::memcpy(address, &value, sizeof(value));
}

// Of magnitude 10^u, either sign.
float RandomScale(std::mt19937& rng, double low_exponent, double high_exponent) {
  std::uniform_real_distribution<double> exponent(low_exponent, high_exponent);
  const double magnitude = std::pow(10.0, exponent(rng));
  return static_cast<float>(rng() % 2 == 0 ? magnitude : -magnitude);
}

}  // namespace

std::vector<IsaLevel> Levels() {
  std::vector<IsaLevel> levels{IsaLevel::kScalar};
  const IsaLevel best = CpuFeatures::Detect().best_level();
  if (best >= IsaLevel::kAvx2) levels.push_back(IsaLevel::kAvx2);
  if (best >= IsaLevel::kAvx512) levels.push_back(IsaLevel::kAvx512);
  return levels;
}

std::vector<std::byte> RandomWeights(DType type, int64_t rows, int64_t cols, std::mt19937& rng,
                                     double low_exponent, double high_exponent) {
  const DTypeInfo& info = Info(type);
  const size_t n_blocks = static_cast<size_t>(rows * cols) / info.block_elements;
  std::vector<std::byte> bytes(n_blocks * info.block_bytes);
  const auto scale = [&] { return RandomScale(rng, low_exponent, high_exponent); };
  if (info.block_elements == 1) {
    for (size_t i = 0; i < n_blocks; ++i) {
      std::byte* address = bytes.data() + i * info.block_bytes;
      if (type == DType::kF32) Put(address, scale());
      if (type == DType::kF16) Put(address, F32ToF16(scale()));
      if (type == DType::kBF16) Put(address, F32ToBF16(scale()));
    }
    return bytes;
  }
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng() >> 24);
  SetRandomScales(type, rng, low_exponent, high_exponent, &bytes);
  return bytes;
}

void SetRandomScales(DType type, std::mt19937& rng, double low_exponent, double high_exponent,
                     std::vector<std::byte>* bytes) {
  if (type == DType::kInt8Row) return;  // its scales are not among its bytes
  const auto block_bytes = static_cast<size_t>(Info(type).block_bytes);
  const HalfOffsets offsets = OffsetsOf(type);
  for (size_t at = 0; at < bytes->size(); at += block_bytes) {
    std::byte* const block = bytes->data() + at;
    Put(block + offsets.first, F32ToF16(RandomScale(rng, low_exponent, high_exponent)));
    if (offsets.second >= 0) {
      Put(block + offsets.second, F32ToF16(RandomScale(rng, low_exponent, high_exponent)));
    }
  }
}

std::vector<float> RandomActivations(int64_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(rng) * (rng() % 64 == 0 ? 10.0f : 1.0f);
  return values;
}

const float* RowScales(int64_t rows) {
  static const std::vector<float> scales = [] {
    std::vector<float> values(1 << 12);
    for (size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>(i % 7 + 1);
    return values;
  }();
  STOKER_CHECK(rows <= static_cast<int64_t>(scales.size()));
  return scales.data();
}

TensorView MatrixView(DType type, int64_t rows, int64_t cols, const std::vector<std::byte>& bytes) {
  TensorView view;
  view.type = type;
  view.shape = {rows, cols, 1, 1};
  view.n_dims = 2;
  view.data = bytes.data();
  view.bytes = bytes.size();
  if (type == DType::kInt8Row) view.row_scales = RowScales(rows);
  return view;
}

}  // namespace stoker::test
