// Rules of the layer parts that need no weights: slopes and decays, RoPE, expert choice and
// grouping.

#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/layers/lightning_attention.h"
#include "runtime/layers/moe.h"
#include "runtime/layers/rope.h"
#include "runtime/layers/softmax_attention.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

bool Near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance; }

TEST_CASE("slopes of 64 heads run from 0.917 to 2^-8") {
  const std::vector<double> slopes = AlibiSlopes(64);
  REQUIRE(slopes.size() == 64);
  CHECK(Near(slopes[0], 0.9170040432046712, 1e-12));
  CHECK(Near(slopes[63], 0.00390625, 1e-15));
}

TEST_CASE("slopes of a head count that is no power of two interpolate") {
  const std::vector<double> slopes = AlibiSlopes(6);
  REQUIRE(slopes.size() == 6);
  CHECK(Near(slopes[3], std::exp2(-8.0), 1e-15));
  CHECK(Near(slopes[4], std::exp2(-1.0), 1e-15));  // index 0 of the eight-head list
  CHECK(Near(slopes[5], std::exp2(-3.0), 1e-15));  // index 2
}

TEST_CASE("decay uses the global layer index") {
  CHECK(Near(LightningDecay(64, 0, 80)[0], 0.39971, 1e-5));
  CHECK(Near(LightningDecay(64, 78, 80)[63], 0.99995052, 1e-8));
  CHECK(LightningDecay(4, 0, 1).size() == 4);  // one layer: no division by zero
}

TEST_CASE("rope pairs component i with i + R/2 and leaves the rest") {
  const Rope rope(4, 10000.0);
  float cos[2];
  float sin[2];
  rope.Angles(3, cos, sin);
  CHECK(Near(cos[0], std::cos(3.0), 1e-6));
  CHECK(Near(sin[1], std::sin(0.03), 1e-6));
  float head[6] = {1.0f, 0.0f, 0.0f, 2.0f, 7.0f, 8.0f};
  rope.Apply(cos, sin, head);
  CHECK(Near(head[0], std::cos(3.0), 1e-6));
  CHECK(Near(head[2], std::sin(3.0), 1e-6));
  CHECK(Near(head[1], -2.0 * std::sin(0.03), 1e-6));
  CHECK(Near(head[3], 2.0 * std::cos(0.03), 1e-6));
  CHECK(head[4] == 7.0f);
  CHECK(head[5] == 8.0f);
}

TEST_CASE("rope stays accurate at a million positions") {
  const Rope rope(64, 1e7);
  float cos[32];
  float sin[32];
  rope.Angles(1000003, cos, sin);
  for (int i = 0; i < 32; ++i) CHECK(Near(cos[i] * cos[i] + sin[i] * sin[i], 1.0, 1e-6));
  CHECK(Near(cos[0], std::cos(1000003.0), 1e-6));  // frequency 0 is exactly 1
}

TEST_CASE("partial sums of a longer context are room enough for every shorter one") {
  ModelConfig config;
  config.n_heads = 4;
  config.head_dim = 8;
  int64_t before = 0;
  for (const int64_t n_ctx : {1, 2048, 2049, 1 << 20, (1 << 20) + 1, 1500000, 4000000}) {
    const int64_t floats = SoftmaxPartialFloats(config, n_ctx);
    CHECK(floats >= before);
    before = floats;
  }
  // At most one for every 2048 keys, and 512.
  CHECK(SoftmaxPartialFloats(config, 2048) == 4 * (8 + 2));
  CHECK(SoftmaxPartialFloats(config, 1 << 20) == 4 * 512 * (8 + 2));
  CHECK(SoftmaxPartialFloats(config, 1500000) == 4 * 512 * (8 + 2));
}

TEST_CASE("experts: largest first, ties to the lower id, softmax over the chosen") {
  const float logits[] = {1.0f, 3.0f, 3.0f, -2.0f};
  int32_t ids[2];
  float weights[2];
  PickExperts(logits, ids, weights);
  CHECK(ids[0] == 1);
  CHECK(ids[1] == 2);
  CHECK(weights[0] == 0.5f);
  CHECK(weights[1] == 0.5f);
  const float uneven[] = {0.0f, std::log(3.0f), -100.0f};
  PickExperts(uneven, ids, weights);
  CHECK(ids[0] == 1);
  CHECK(Near(weights[0], 0.75, 1e-6));
}

TEST_CASE("expert groups: every assignment once, slots contiguous per expert") {
  ExpertGroups groups(4, 8, 2);
  const std::vector<int32_t> router = {3, 0, 0, 3, 1, 3};
  groups.Assign(router, 3);
  CHECK(std::vector<int32_t>(groups.touched().begin(), groups.touched().end()) ==
        std::vector<int32_t>{0, 1, 3});
  CHECK(groups.rows(0).size() == 2);
  CHECK(groups.rows(1).size() == 1);
  CHECK(groups.rows(2).empty());
  CHECK(groups.rows(3).size() == 3);
  std::vector<bool> used(6, false);
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t rank = 0; rank < 2; ++rank) {
      const int64_t slot = groups.slot(row, rank);
      const int32_t expert = router[row * 2 + rank];
      const int64_t index = slot - groups.first_slot(expert);
      CHECK(groups.rows(expert)[index] == row);
      CHECK_FALSE(used[slot]);
      used[slot] = true;
    }
  }
}

}  // namespace
}  // namespace stoker
