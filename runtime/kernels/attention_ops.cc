#include "runtime/kernels/attention_ops.h"

#include "mmap/half.h"
#include "runtime/kernels/isa_tables.h"

namespace stoker {
namespace {

const AttentionOps& Active() noexcept {
  static const AttentionOps& ops = AttentionOpsFor(ActiveIsaLevel());
  return ops;
}

// x[i] to element i * stride.
void Store(KvType type, const float* x, int64_t d, int64_t stride, std::byte* to) {
  if (type == KvType::kF16) {
    auto* const halves = reinterpret_cast<uint16_t*>(to);
    for (int64_t i = 0; i < d; ++i) halves[i * stride] = F32ToF16(x[i]);
  } else {
    auto* const floats = reinterpret_cast<float*>(to);
    for (int64_t i = 0; i < d; ++i) floats[i * stride] = x[i];
  }
}

}  // namespace

const AttentionOps& AttentionOpsFor(IsaLevel level) noexcept {
  switch (level) {
    case IsaLevel::kScalar: break;
    case IsaLevel::kAvx2: return avx2::kAttentionOps;
    case IsaLevel::kAvx512: return avx512::kAttentionOps;
  }
  return scalar::kAttentionOps;
}

void StoreKey(KvType type, const float* key, int64_t d, int64_t position,
              std::byte* keys) noexcept {
  const int64_t element = position / kKeyBlock * kKeyBlock * d + position % kKeyBlock;
  Store(type, key, d, kKeyBlock, keys + element * KvBytes(type));
}
void StoreValue(KvType type, const float* value, int64_t d, int64_t position,
                std::byte* values) noexcept {
  Store(type, value, d, 1, values + position * d * KvBytes(type));
}
void KeyScores(KvType type, const float* q, int64_t n_rows, int64_t d, const std::byte* keys,
               int64_t n_blocks, const std::byte* next, float* scores, int64_t stride) noexcept {
  Active().key_scores(type, q, n_rows, d, keys, n_blocks, next, scores, stride);
}
void AddValues(KvType type, const float* weights, int64_t stride, int64_t n_rows,
               const std::byte* values, int64_t n_keys, int64_t d, float* out) noexcept {
  Active().add_values(type, weights, stride, n_rows, values, n_keys, d, out);
}

}  // namespace stoker
