#pragma once

// Softmax attention's products with the KV cache, and how a head's keys and values lie in it. Keys
// come in blocks of sixteen positions, transposed ([d][16]), so that lanes are keys and a score is
// summed without crossing lanes; values lie by position ([d] each). Either may be f16 or f32;
// queries, weights and sums are f32. Every row's result has an order of additions of its own: it
// does not depend on the rows beside it, nor on the level beyond the widths of fused operations.
// Dispatched to the active instruction set; the scalar version is the specification (relative
// tolerance 2e-6 of the sum of magnitudes). Pure, thread-safe, noexcept, no allocation.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "numa/bytes.h"
#include "numa/cpu_features.h"

namespace stoker {

enum class KvType { kF16, kF32 };
constexpr int64_t KvBytes(KvType type) { return type == KvType::kF16 ? 2 : 4; }
constexpr std::string_view KvTypeName(KvType type) {
  return type == KvType::kF16 ? "f16" : "f32";
}
// nullopt for any other name.
constexpr std::optional<KvType> KvTypeFromName(std::string_view name) {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    if (name == KvTypeName(type)) return type;
  }
  return std::nullopt;
}

// A head's cache holds a multiple of this many positions.
inline constexpr int64_t kKeyBlock = 16;
// Bytes of a head's keys, or values, of d elements, for so many positions.
constexpr int64_t KvHeadBytes(KvType type, int64_t n_positions, int64_t d) {
  return DivCeil(n_positions, kKeyBlock) * kKeyBlock * d * KvBytes(type);
}

// Puts a key or value of d elements, rounded to the type, at its position in the cache of a head.
// A magnitude beyond 65504 becomes infinite as f16.
void StoreKey(KvType type, const float* key, int64_t d, int64_t position, std::byte* keys) noexcept;
void StoreValue(KvType type, const float* value, int64_t d, int64_t position,
                std::byte* values) noexcept;

// scores[r * stride + i] = q[r] . key i, for n_rows queries [n_rows, d] and the 16 n_blocks keys
// from `keys` on, the beginning of a block. As many bytes as are read are asked for from `next` on,
// which will be read next: the values, which no hardware prefetcher follows.
void KeyScores(KvType type, const float* q, int64_t n_rows, int64_t d, const std::byte* keys,
               int64_t n_blocks, const std::byte* next, float* scores, int64_t stride) noexcept;

// out[r] += sum over i of weights[r * stride + i] * value i, for n_rows outputs [n_rows, d] and the
// n_keys values from `values` on, in their order.
void AddValues(KvType type, const float* weights, int64_t stride, int64_t n_rows,
               const std::byte* values, int64_t n_keys, int64_t d, float* out) noexcept;

// The same of one instruction set, for tests.
struct AttentionOps {
  void (*key_scores)(KvType, const float*, int64_t, int64_t, const std::byte*, int64_t,
                     const std::byte*, float*, int64_t) noexcept;
  void (*add_values)(KvType, const float*, int64_t, int64_t, const std::byte*, int64_t, int64_t,
                     float*) noexcept;
};

// The table of a level. The machine must have that level.
const AttentionOps& AttentionOpsFor(IsaLevel level) noexcept;

}  // namespace stoker
