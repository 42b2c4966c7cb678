#include "runtime/layers/lightning_attention.h"

#include <bit>
#include <cmath>

#include "runtime/kernels/vector_ops.h"

namespace stoker {

std::vector<double> AlibiSlopes(int64_t n_heads) {
  const auto power_of_two_slopes = [](int64_t n) {
    std::vector<double> slopes(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j) {
      slopes[j] = std::exp2(-8.0 * static_cast<double>(j + 1) / static_cast<double>(n));
    }
    return slopes;
  };
  const int64_t below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n_heads)));
  std::vector<double> slopes = power_of_two_slopes(below);
  const std::vector<double> above = power_of_two_slopes(2 * below);
  for (size_t j = 0; static_cast<int64_t>(slopes.size()) < n_heads; j += 2) {
    slopes.push_back(above[j]);
  }
  return slopes;
}

std::vector<float> LightningDecay(int64_t n_heads, int64_t layer, int64_t n_layers) {
  const double depth =
      n_layers > 1 ? static_cast<double>(layer) / static_cast<double>(n_layers - 1) : 0.0;
  const double factor = 1.0 - depth + 1e-5;
  std::vector<float> decay;
  for (const double slope : AlibiSlopes(n_heads)) {
    decay.push_back(static_cast<float>(std::exp(-slope * factor)));
  }
  return decay;
}

void LightningHeads(const Worker& worker, LayerContext& context, int64_t lightning_index,
                    const std::vector<float>& decay) {
  const ModelConfig& config = context.config;
  const int64_t d = config.head_dim;
  const int64_t qkv_stride = 3 * config.n_heads * d;
  const int64_t attn_stride = config.n_heads * d;
  const auto [head_begin, head_end] = worker.Share(config.n_heads);
  for (const Segment& segment : context.segments) {
    for (int64_t head = head_begin; head < head_end; ++head) {
      float* state = segment.state->Lightning(lightning_index, head);
      for (int64_t i = 0; i < segment.n_tokens; ++i) {
        const int64_t row = segment.first_row + i;
        float* q = context.ws.qkv + row * qkv_stride + head * 3 * d;  // [q | k | v] of this head
        Silu(q, 3 * d);
        DecayOuterUpdate(decay[head], q + d, q + 2 * d, q, state,
                         context.ws.attn + row * attn_stride + head * d, d);
      }
    }
  }
}

}  // namespace stoker
