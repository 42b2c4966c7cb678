// Products with the KV cache of every level against the scalar specification, which is itself
// checked against f64 on what was stored; rows give the same bits alone and together.

#include "runtime/kernels/attention_ops.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "mmap/half.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr float kGuard = 12345.5f;

float Rounded(KvType type, float x) {
  return type == KvType::kF16 ? F16ToF32(F32ToF16(x)) : x;
}

// A head's cache of n positions, and what was put into it, rounded.
struct Cache {
  std::vector<std::byte> keys, values;
  std::vector<float> k, v;

  Cache(KvType type, int64_t n, int64_t d, std::mt19937& rng)
      : k(test::RandomActivations(n * d, rng)), v(test::RandomActivations(n * d, rng)) {
    const int64_t held = (n + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
    // What was never stored must not matter: 0xff is a NaN in both types.
    keys.assign(static_cast<size_t>(held * d * KvBytes(type)), std::byte{0xff});
    values.assign(keys.size(), std::byte{0xff});
    for (int64_t i = 0; i < n; ++i) {
      StoreKey(type, k.data() + i * d, d, i, keys.data());
      StoreValue(type, v.data() + i * d, d, i, values.data());
    }
    for (float& x : k) x = Rounded(type, x);
    for (float& x : v) x = Rounded(type, x);
  }
};

struct Shape {
  int64_t n_rows, d, n_keys;
};
constexpr Shape kShapes[] = {{1, 128, 64}, {8, 128, 64}, {3, 128, 17}, {13, 64, 1},
                             {4, 16, 33},  {5, 24, 16},  {2, 6, 5},    {8, 100, 48}};

TEST_CASE("scores of keys") {
  for (const IsaLevel level : test::Levels()) {
    for (const KvType type : {KvType::kF16, KvType::kF32}) {
      std::mt19937 rng(31);
      for (const auto& [n_rows, d, n_keys] : kShapes) {
        CAPTURE(IsaLevelName(level), KvTypeName(type), n_rows, d, n_keys);
        const Cache cache(type, n_keys, d, rng);
        const std::vector<float> q = test::RandomActivations(n_rows * d, rng);
        const int64_t n_blocks = (n_keys + kKeyBlock - 1) / kKeyBlock;
        const int64_t stride = n_blocks * kKeyBlock + 3;
        std::vector<float> scores(static_cast<size_t>(n_rows * stride), kGuard);
        const AttentionOps& ops = AttentionOpsFor(level);
        ops.key_scores(type, q.data(), n_rows, d, cache.keys.data(), n_blocks,
                       cache.values.data(), scores.data(), stride);
        std::vector<float> alone(static_cast<size_t>(stride), kGuard);
        int64_t wrong = 0;
        for (int64_t r = 0; r < n_rows; ++r) {
          const float* const row = scores.data() + r * stride;
          for (int64_t i = 0; i < n_keys; ++i) {
            double sum = 0.0, size = 0.0;
            for (int64_t j = 0; j < d; ++j) {
              const double product = static_cast<double>(q[r * d + j]) * cache.k[i * d + j];
              sum += product;
              size += std::fabs(product);
            }
            wrong += !(std::fabs(row[i] - sum) <= 2e-6 * size);
          }
          for (int64_t i = n_blocks * kKeyBlock; i < stride; ++i) wrong += row[i] != kGuard;
          ops.key_scores(type, q.data() + r * d, 1, d, cache.keys.data(), n_blocks,
                         cache.values.data(), alone.data(), stride);
          wrong += std::memcmp(alone.data(), row, static_cast<size_t>(n_keys) * sizeof(float)) != 0;
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("sums of values") {
  for (const IsaLevel level : test::Levels()) {
    for (const KvType type : {KvType::kF16, KvType::kF32}) {
      std::mt19937 rng(32);
      for (const auto& [n_rows, d, n_keys] : kShapes) {
        CAPTURE(IsaLevelName(level), KvTypeName(type), n_rows, d, n_keys);
        const Cache cache(type, n_keys, d, rng);
        const int64_t stride = n_keys + 3;
        const std::vector<float> weights = test::RandomActivations(n_rows * stride, rng);
        std::vector<float> before = test::RandomActivations(n_rows * d + 1, rng);
        before.back() = kGuard;
        std::vector<float> out = before;
        const AttentionOps& ops = AttentionOpsFor(level);
        ops.add_values(type, weights.data(), stride, n_rows, cache.values.data(), n_keys, d,
                       out.data());
        int64_t wrong = 0;
        for (int64_t r = 0; r < n_rows; ++r) {
          std::vector<float> alone(before.begin() + r * d, before.begin() + (r + 1) * d);
          ops.add_values(type, weights.data() + r * stride, stride, 1, cache.values.data(), n_keys,
                         d, alone.data());
          for (int64_t j = 0; j < d; ++j) {
            double sum = before[r * d + j], size = std::fabs(sum);
            for (int64_t i = 0; i < n_keys; ++i) {
              const double product =
                  static_cast<double>(weights[r * stride + i]) * cache.v[i * d + j];
              sum += product;
              size += std::fabs(product);
            }
            wrong += !(std::fabs(out[r * d + j] - sum) <= 2e-6 * size);
            wrong += out[r * d + j] != alone[static_cast<size_t>(j)];
          }
        }
        CHECK(wrong == 0);
        CHECK(out.back() == kGuard);
      }
    }
  }
}

TEST_CASE("what f16 cannot hold shows") {
  const int64_t d = 16;
  std::vector<float> key(static_cast<size_t>(d), 1.0f);
  key[3] = 70000.0f;
  std::vector<std::byte> keys(static_cast<size_t>(kKeyBlock * d * KvBytes(KvType::kF16)));
  StoreKey(KvType::kF16, key.data(), d, 5, keys.data());
  float scores[kKeyBlock];
  KeyScores(KvType::kF16, key.data(), 1, d, keys.data(), 1, keys.data(), scores, kKeyBlock);
  CHECK(scores[5] == std::numeric_limits<float>::infinity());
  CHECK(scores[4] == 0.0f);
}

}  // namespace
}  // namespace stoker
