// Experts that are multiplied while their rows arrive give the bits of experts that are there, and
// lie in memory afterwards as the source is told: a second use reads them right.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "numa/thread_team.h"
#include "runtime/layers/moe.h"
#include "runtime/layers/projections_ahead.h"
#include "runtime/matmul/fast_backend.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr int kExperts = 3;

struct Shape {
  int64_t hidden;
  int64_t expert_hidden;
};

ModelConfig ConfigOf(const Shape& shape) {
  ModelConfig config;
  config.n_layers = 1;
  config.hidden_size = shape.hidden;
  config.vocab_size = 8;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 16;
  config.rotary_dim = 8;
  config.expert_hidden_size = shape.expert_hidden;
  config.n_experts = kExperts;
  config.n_experts_per_token = 2;
  config.attention = {AttentionKind::kLightning};
  return config;
}

// Hands out experts in order, their bytes its own. While `arriving`, the last of a request comes
// `step` rows at a time.
class SlowSource final : public ExpertSource {
 public:
  SlowSource(DType type, const Shape& shape, uint32_t seed) {
    std::mt19937 rng(seed);
    const std::array<std::pair<int64_t, int64_t>, kExpertParts> sizes = {
        {{shape.expert_hidden, shape.hidden},
         {shape.expert_hidden, shape.hidden},
         {shape.hidden, shape.expert_hidden}}};
    for (int e = 0; e < kExperts; ++e) {
      for (int p = 0; p < kExpertParts; ++p) {
        const auto [rows, cols] = sizes[static_cast<size_t>(p)];
        std::vector<std::byte>& bytes = bytes_[static_cast<size_t>(e)][static_cast<size_t>(p)];
        bytes = test::RandomWeights(type, rows, cols, rng);
        TensorView view = test::MatrixView(type, rows, cols, bytes);
        view.may_relay = true;
        Part(views_[static_cast<size_t>(e)], p) = view;
      }
    }
  }

  bool arriving = false;
  int64_t step = 1;

  void Request(std::span<const ExpertId> ids) override {
    ids_.assign(ids.begin(), ids.end());
    taken_ = 0;
  }
  ExpertHandle Next() override { return HandOut(); }
  ExpertHandle NextArriving() override {
    if (arriving && taken_ + 1 == ids_.size()) incomplete_ = ids_[taken_].expert;
    return HandOut();
  }

 private:
  static TensorView& Part(ExpertView& view, int part) {
    return part == 0 ? view.gate : part == 1 ? view.up : view.down;
  }
  ExpertHandle HandOut() {
    const ExpertId id = ids_[taken_++];
    const auto slot = static_cast<uint32_t>(id.expert);
    return ExpertHandle(this, id, views_[slot], slot);
  }
  void Unpin(ExpertId, uint32_t) override { incomplete_ = -1; }
  bool Complete(uint32_t slot) const override { return static_cast<int32_t>(slot) != incomplete_; }
  int64_t WaitRows(uint32_t slot, ExpertPart part, int64_t have) override {
    return std::min(have + step, Part(views_[slot], static_cast<int>(part)).rows());
  }
  void Relaid(ExpertId, uint32_t slot, const ExpertView& view) override { views_[slot] = view; }

  std::array<std::array<std::vector<std::byte>, kExpertParts>, kExperts> bytes_;
  std::array<ExpertView, kExperts> views_;
  std::vector<ExpertId> ids_;
  size_t taken_ = 0;
  int32_t incomplete_ = -1;
};

class Layer {
 public:
  Layer(const Shape& shape, int64_t n_tokens)
      : config_(ConfigOf(shape)),
        team_(2, /*pin=*/false),
        matmul_(MakeFastBackend(Precision::kFast, 2)),
        size_{.max_tokens = n_tokens, .max_logit_rows = 1, .n_ctx = 64},
        ws_(config_, size_, team_.partition()),
        groups_(kExperts, n_tokens, 2),
        request_(config_, n_tokens),
        ahead_(size_),
        segments_{{.n_tokens = n_tokens}} {
    std::mt19937 rng(7);
    const std::vector<float> h = test::RandomActivations(n_tokens * shape.hidden, rng);
    NodeWorkspace& node = ws_.nodes.front();
    std::copy(h.begin(), h.end(), node.h);
    team_.Run([&](const Worker& worker) {
      node.hidden_acts.Prepare(worker, node.h, n_tokens, shape.hidden, shape.hidden,
                               kActF32 | kActQ8Residual);
    });
    for (int64_t i = 0; i < n_tokens; ++i) {
      for (int64_t rank = 0; rank < 2; ++rank) {
        ws_.router_ids[static_cast<size_t>(2 * i + rank)] =
            static_cast<int32_t>((i + rank) % kExperts);
        ws_.router_weights[static_cast<size_t>(2 * i + rank)] = 0.5f;
      }
    }
    std::fill_n(ws_.router_logits, n_tokens * kExperts, 0.0f);
    groups_.Assign(ws_.router_ids, n_tokens);
  }

  std::vector<float> Run(SlowSource& source) {
    const int64_t n_tokens = segments_.front().n_tokens;
    LayerContext context{config_, *matmul_, team_, ws_, segments_, n_tokens};
    std::fill_n(ws_.expert_out, n_tokens * 2 * config_.hidden_size, -1.0f);
    ExpertCosts costs;
    RunExperts(context, 0, 0, groups_, source, request_, ahead_, costs);
    return {ws_.expert_out, ws_.expert_out + n_tokens * 2 * config_.hidden_size};
  }

 private:
  ModelConfig config_;
  ThreadTeam team_;
  std::unique_ptr<MatmulBackend> matmul_;
  WorkspaceSize size_;
  Workspace ws_;
  ExpertGroups groups_;
  ExpertRequest request_;
  ProjectionsAhead ahead_;
  std::vector<Segment> segments_;
};

TEST_CASE("arriving experts give the bits of those that are there, then and later") {
  // Behind the last whole batch of rows there are few, more, and none.
  constexpr Shape kFew = {.hidden = 288, .expert_hidden = 544};
  constexpr Shape kWhole = {.hidden = 768, .expert_hidden = 512};
  const std::pair<DType, Shape> cases[] = {
      {DType::kInt8Row, kFew}, {DType::kInt8Row, kWhole}, {DType::kF16, kFew},
      {DType::kBF16, kFew},    {DType::kF32, kWhole},     {DType::kF32, kFew},
      {DType::kQ8_0, kFew},    {DType::kQ4_K, kWhole},    {DType::kQ6_K, kWhole}};
  for (const auto& [type, shape] : cases) {
    for (const int64_t n_tokens : {1, 7}) {
      Layer layer(shape, n_tokens);
      SlowSource there(type, shape, 3);
      const std::vector<float> expected = layer.Run(there);
      for (const int64_t step : {100, 256, 300, 500}) {
        CAPTURE(Info(type).name, shape.hidden, n_tokens, step);
        SlowSource slow(type, shape, 3);
        slow.arriving = true;
        slow.step = step;
        CHECK(layer.Run(slow) == expected);
        slow.arriving = false;
        CHECK(layer.Run(slow) == expected);  // as it lies now
      }
    }
  }
}

}  // namespace
}  // namespace stoker
