#pragma once

// Mixture of experts: router (softmax over all experts, top k, renormalised) and the expert MLPs
// (SwiGLU), tokens grouped by expert so that each touched expert's weights are read once per chunk.
// The output does not depend on the order in which experts arrive from the ExpertSource: every
// expert writes rows of its own and they are added in rank order at the end. Engine-thread only.

#include <cstdint>
#include <span>
#include <vector>

#include "experts/expert_source.h"
#include "runtime/layers/workspace.h"

namespace stoker {

class ProjectionsAhead;

// Picks the top_k largest of logits [n_experts], ties to the lower id; weights are the softmax of
// the chosen logits, which equals the renormalised softmax over all. ids and weights [top_k],
// descending weight.
void PickExperts(std::span<const float> logits, std::span<int32_t> ids, std::span<float> weights);

// Assignments of a chunk's tokens to experts, grouped by expert.
class ExpertGroups {
 public:
  ExpertGroups(int64_t n_experts, int64_t max_tokens, int64_t top_k);

  // router_ids [n_tokens, top_k].
  void Assign(std::span<const int32_t> router_ids, int64_t n_tokens);

  std::span<const int32_t> touched() const { return touched_; }  // experts, ascending
  // Token rows of an expert, ascending; they own rows [first_slot, first_slot + size) of the
  // grouped buffers.
  std::span<const int32_t> rows(int32_t expert) const {
    return std::span(rows_).subspan(offsets_[expert], offsets_[expert + 1] - offsets_[expert]);
  }
  int64_t first_slot(int32_t expert) const { return offsets_[expert]; }
  // Row of the grouped buffers that holds the output of token `row`'s expert of rank `rank`.
  int64_t slot(int64_t row, int64_t rank) const { return slots_[row * top_k_ + rank]; }

 private:
  int64_t n_experts_;
  int64_t top_k_;
  std::vector<int32_t> touched_;
  std::vector<int64_t> offsets_;  // [n_experts + 1]
  std::vector<int64_t> cursor_;   // [n_experts]
  std::vector<int32_t> rows_;     // [n_tokens * top_k]
  std::vector<int64_t> slots_;    // [n_tokens * top_k]
};

// What one call of RunExperts announces, kept between calls so that the token path allocates
// nothing.
struct ExpertRequest {
  ExpertRequest(const ModelConfig& config, int64_t max_tokens);
  std::vector<ExpertId> ids;            // touched experts, ascending
  std::vector<AccessContext> contexts;  // as ids, for policies and traces
  std::vector<RouterChoice> routes;     // as RequestInfo::routes
};

// x [H] of a token behind its experts: alpha residual + beta sum over ranks of weight times output.
void AddExperts(const LayerContext& context, const ExpertGroups& groups, const NodeWorkspace& node,
                int64_t row, float* x);

struct ExpertCosts {
  double wait_seconds = 0;    // waiting for expert bytes
  uint64_t weight_bytes = 0;  // of the matrices multiplied
};

// Runs every touched expert of a layer over the nodes' hidden_acts (prepared from u) and leaves
// rows in ws.expert_out. `first_token` counts the tokens this model has seen before the chunk. Adds
// to costs. While experts are awaited `ahead` runs.
void RunExperts(LayerContext& context, int64_t layer, int64_t first_token,
                const ExpertGroups& groups, ExpertSource& source, ExpertRequest& request,
                ProjectionsAhead& ahead, ExpertCosts& costs);

}  // namespace stoker
