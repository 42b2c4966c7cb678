#pragma once

// Guesses which experts a layer will want before its router has run, by giving the router what is
// known early. M1's residual stream is alpha times the normalised input of each block plus the
// block's output, with alpha = 3.56, so a block turns the stream by little: the router mostly
// answers the same for the stream before a block as for the stream after it. For prefetching only;
// results never depend on it. Owns its scratch; collective inside ThreadTeam::Run.

#include <cstdint>
#include <span>
#include <vector>

#include "experts/expert_source.h"
#include "numa/node_buffer.h"
#include "runtime/layers/workspace.h"

namespace stoker {

class ExpertGuess {
 public:
  ExpertGuess(const ModelConfig& config, int64_t max_tokens);

  // Collective, ends with a barrier. x [n_tokens, H]: the normalised input of the layer's
  // attention, or with `attention_gain` [H] the stream from which that is made. moe_gain [H]: of
  // the norm in front of the router [E, H]. Of long chunks a sample of rows is looked at.
  void Compute(const Worker& worker, LayerContext& context, const float* x,
               const float* attention_gain, const float* moe_gain, const TensorView& router);
  // One worker, after Compute: the experts guessed, likeliest first. Valid until the next call.
  std::span<const ExpertId> Pick(int64_t layer);

 private:
  const int64_t hidden_;
  const int64_t n_experts_;
  const int64_t top_k_;
  int64_t n_rows_ = 0;
  NodeBuffer rows_;    // [kMaxRows, H] f32
  NodeBuffer logits_;  // [kMaxRows, E] f32
  Activations acts_;
  std::vector<float> weights_;    // [E] summed over rows
  std::vector<int32_t> top_ids_;  // [top_k]
  std::vector<float> top_weights_;
  std::vector<ExpertId> guess_;
};

}  // namespace stoker
