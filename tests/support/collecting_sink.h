#pragma once

// A ForwardSink that keeps everything one run makes, for comparison with expected values.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/model.h"

namespace stoker::testing {

class CollectingSink : public ForwardSink {
 public:
  CollectingSink(const ModelConfig& config, int64_t n_tokens, bool layers)
      : config_(config), n_tokens_(n_tokens), layers_(layers) {
    logits.resize(static_cast<size_t>(n_tokens * config.vocab_size));
    if (layers) {
      layer_out.resize(static_cast<size_t>(config.n_layers * n_tokens * config.hidden_size));
      router_ids.resize(
          static_cast<size_t>(config.n_layers * n_tokens * config.n_experts_per_token));
      router_weights.resize(router_ids.size());
    }
  }

  void OnLogits(int64_t, int64_t token, std::span<const float> row) override {
    std::copy(row.begin(), row.end(), logits.begin() + token * config_.vocab_size);
  }
  bool wants_layers() const override { return layers_; }
  void OnLayer(const LayerResult& result) override {
    const int64_t row = result.layer * n_tokens_ + result.first_token;
    const int64_t k = config_.n_experts_per_token;
    std::copy_n(result.x, result.n_tokens * config_.hidden_size,
                layer_out.begin() + row * config_.hidden_size);
    std::copy_n(result.router_ids, result.n_tokens * k, router_ids.begin() + row * k);
    std::copy_n(result.router_weights, result.n_tokens * k, router_weights.begin() + row * k);
  }

  std::vector<float> logits;          // [n_tokens, V]
  std::vector<float> layer_out;       // [n_layers, n_tokens, H]
  std::vector<int32_t> router_ids;    // [n_layers, n_tokens, top_k]
  std::vector<float> router_weights;  // [n_layers, n_tokens, top_k]

 private:
  ModelConfig config_;
  int64_t n_tokens_;
  bool layers_;
};

}  // namespace stoker::testing
