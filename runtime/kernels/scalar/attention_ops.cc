// The specification of attention_ops.h: short and obvious, never optimised.

#include "runtime/kernels/attention_ops.h"

#include "mmap/half.h"
#include "runtime/kernels/isa_tables.h"

namespace stoker::scalar {
namespace {

float Load(KvType type, const std::byte* from, int64_t i) {
  if (type == KvType::kF16) return F16ToF32(reinterpret_cast<const uint16_t*>(from)[i]);
  return reinterpret_cast<const float*>(from)[i];
}

void KeyScores(KvType type, const float* q, int64_t n_rows, int64_t d, const std::byte* keys,
               int64_t n_blocks, const std::byte* /*next*/, float* scores,
               int64_t stride) noexcept {
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t i = 0; i < n_blocks * kKeyBlock; ++i) {
      const int64_t first = i / kKeyBlock * kKeyBlock * d + i % kKeyBlock;
      double sum = 0.0;
      for (int64_t j = 0; j < d; ++j) {
        sum += static_cast<double>(q[r * d + j]) * Load(type, keys, first + j * kKeyBlock);
      }
      scores[r * stride + i] = static_cast<float>(sum);
    }
  }
}

void AddValues(KvType type, const float* weights, int64_t stride, int64_t n_rows,
               const std::byte* values, int64_t n_keys, int64_t d, float* out) noexcept {
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t i = 0; i < n_keys; ++i) {
      for (int64_t j = 0; j < d; ++j) {
        out[r * d + j] += weights[r * stride + i] * Load(type, values, i * d + j);
      }
    }
  }
}

}  // namespace

const AttentionOps kAttentionOps = {.key_scores = KeyScores, .add_values = AddValues};

}  // namespace stoker::scalar
