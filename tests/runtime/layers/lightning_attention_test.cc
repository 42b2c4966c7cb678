// Lightning attention against the recurrence in f64, in both its forms: tokens one by one, whole
// blocks, and segments that begin and end within a block; slow and fast heads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "numa/thread_team.h"
#include "runtime/layers/lightning_attention.h"
#include "runtime/matmul/reference_backend.h"
#include "tests/support/catch.h"
#include "tests/support/near.h"

namespace stoker {
namespace {

using test::RelativeError;

ModelConfig Config() {
  ModelConfig config;
  config.n_layers = 1;
  config.hidden_size = 32;
  config.n_heads = 3;
  config.n_kv_heads = 1;
  config.head_dim = 24;
  config.n_experts = 2;
  config.n_experts_per_token = 1;
  config.expert_hidden_size = 32;
  config.vocab_size = 8;
  config.attention = {AttentionKind::kLightning};
  return config;
}

// One head of the model that decays to nothing within a few tokens, one that hardly decays.
const std::vector<float> kDecay = {0.4f, 0.9f, 0.99995f};

class Sequence {
 public:
  explicit Sequence(int64_t n_tokens)
      : config_(Config()),
        team_(1),
        ws_(config_, {.max_tokens = n_tokens, .n_ctx = n_tokens}, team_.partition()),
        matmul_(MakeReferenceBackend(1, 1024)),
        state_(config_, n_tokens, KvTypes{}) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n_tokens * Width(); ++i) projected_.push_back(normal(random));
  }

  // Outputs [n_tokens, A] of tokens fed in pieces of these lengths.
  std::vector<float> Feed(const std::vector<int64_t>& pieces) {
    const int64_t out_width = Width() / 3;
    std::vector<float> out;
    state_.Reset();
    for (const int64_t n : pieces) {
      const int64_t first = state_.position();
      std::copy_n(projected_.begin() + first * Width(), n * Width(), ws_.qkv);
      const std::vector<Segment> segments = {
          {.n_tokens = n, .position = first, .state = &state_}};
      LayerContext context{config_, *matmul_, team_, ws_, segments, n};
      team_.Run([&](const Worker& worker) { LightningHeads(worker, context, 0, kDecay); });
      out.insert(out.end(), ws_.attn, ws_.attn + n * out_width);
      state_.Advance(n);
    }
    return out;
  }

  // The definition, in f64.
  std::vector<double> Expected() const {
    const int64_t d = config_.head_dim;
    const int64_t n_tokens = static_cast<int64_t>(projected_.size()) / Width();
    std::vector<double> out(static_cast<size_t>(n_tokens * config_.n_heads * d));
    for (int64_t head = 0; head < config_.n_heads; ++head) {
      std::vector<double> state(static_cast<size_t>(d * d));
      for (int64_t t = 0; t < n_tokens; ++t) {
        const auto value = [&](int64_t i) {
          const double x = projected_[static_cast<size_t>(t * Width() + head * 3 * d + i)];
          return x / (1.0 + std::exp(-x));
        };
        for (int64_t i = 0; i < d; ++i) {
          for (int64_t j = 0; j < d; ++j) {
            double& s = state[static_cast<size_t>(i * d + j)];
            s = static_cast<double>(kDecay[static_cast<size_t>(head)]) * s +
                value(d + i) * value(2 * d + j);
            out[static_cast<size_t>((t * config_.n_heads + head) * d + j)] += value(i) * s;
          }
        }
      }
    }
    return out;
  }

  std::vector<float> State() const {
    const float* first = state_.Lightning(0, 0);
    return {first, first + config_.n_heads * config_.head_dim * config_.head_dim};
  }

 private:
  int64_t Width() const { return 3 * config_.n_heads * config_.head_dim; }

  const ModelConfig config_;
  ThreadTeam team_;
  Workspace ws_;
  std::unique_ptr<MatmulBackend> matmul_;
  SequenceState state_;
  std::vector<float> projected_;
};

TEST_CASE("blocks of tokens give what tokens one by one give") {
  constexpr int64_t kTokens = 3 * kLightningBlock + 5;
  Sequence sequence(kTokens);
  const std::vector<double> expected = sequence.Expected();
  const std::vector<float> one_by_one = sequence.Feed(std::vector<int64_t>(kTokens, 1));
  const std::vector<float> state = sequence.State();
  CHECK(RelativeError(one_by_one, expected) < 1e-6);
  const std::vector<int64_t> pieces =
      GENERATE(std::vector<int64_t>{kTokens},
                               std::vector<int64_t>{1, kTokens - 1},
                               std::vector<int64_t>{kLightningBlock, kTokens - kLightningBlock},
                               std::vector<int64_t>{70, 120, kTokens - 190});
  CHECK(RelativeError(sequence.Feed(pieces), expected) < 1e-6);
  CHECK(RelativeError(sequence.State(), state) < 4e-6);
}

TEST_CASE("pieces that end with a block change no bit") {
  constexpr int64_t kTokens = 3 * kLightningBlock + 9;
  Sequence sequence(kTokens);
  const std::vector<float> whole = sequence.Feed({kTokens});
  CHECK(sequence.Feed({kLightningBlock, kLightningBlock, kLightningBlock + 9}) == whole);
  CHECK(sequence.Feed({2 * kLightningBlock, kLightningBlock, 4, 5}) == whole);
}

}  // namespace
}  // namespace stoker
