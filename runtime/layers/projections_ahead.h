#pragma once

// The first products of the next layer's attention for tokens whose experts are done, computed
// while the last experts of a prompt's chunk are on their way. With fewer slots than experts are
// read during a layer's attention the disk stands still in the one and the processor in the other;
// what is computed early shortens the former. A token's products do not depend on which tokens
// share a call, where activations are integers, so results are the same bit for bit, whatever was
// early: weights that read f32 are left alone. For teams of one node. Engine-thread only; the token
// path allocates nothing.

#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "runtime/layers/moe.h"
#include "runtime/layers/workspace.h"

namespace stoker {

// A product of attention's input: out [tokens, weight.rows()].
struct Projection {
  const TensorView* weight = nullptr;
  float* out = nullptr;
};

class ProjectionsAhead {
 public:
  // Room for the projections of size.rows_ahead tokens; for none nothing is ever early.
  explicit ProjectionsAhead(const WorkspaceSize& size);

  // What the constructor of a workspace sets aside, in floats.
  static int64_t StoreFloats(const ModelConfig& config, const WorkspaceSize& size);
  static int64_t InputFloats(const ModelConfig& config, const WorkspaceSize& size);

  // Of the tokens of `context`, about to go through experts: the layer behind has these
  // projections (outputs unused) and this norm gain [H] before them.
  void Begin(const LayerContext& context, std::span<const Projection> next, const float* gain);
  // Tokens of one more expert are done.
  void ExpertDone(std::span<const int32_t> rows);
  // Whether there are tokens to compute, and room for them.
  bool CanRun() const {
    return std::ssize(finished_) >= kGroupTokens && n_stored_ + kGroupTokens <= capacity_;
  }
  // Computes some of them, if CanRun. `groups` of the layer at work.
  void Run(LayerContext& context, const ExpertGroups& groups);

  // Collective. The projections of a piece of the chunk, from the nodes' h; those that are early
  // come from the store. Uses hidden_acts and expert_acts. No worker may still read the former
  // (barrier before).
  void Project(const Worker& worker, LayerContext& piece, int64_t first_row,
               std::span<const Projection> projections) const;
  // The layer's attention is over. Returns how many tokens' projections were early.
  int64_t Forget();

 private:
  static constexpr int64_t kGroupTokens = 64;  // computed at a time: some 40 ms of two workers
  static constexpr int32_t kNone = -1;

  // [rows_ahead, width] of the projection in front of which the others have so many columns.
  float* Stored(const Workspace& ws, int64_t columns_before) const {
    return ws.ahead_store + capacity_ * columns_before;
  }
  void TakeStored(const Worker& worker, const Projection& projection, const float* stored,
                  int64_t first_row, int64_t n_tokens, int64_t n_computed) const;

  const int64_t capacity_;
  std::vector<Projection> next_;  // empty: not this layer
  const float* gain_ = nullptr;
  std::vector<int32_t> experts_left_;  // [T] of a token
  std::vector<int32_t> finished_;      // rows, not yet projected
  std::vector<int32_t> stored_at_;     // [T] row of the store, or kNone
  int64_t n_stored_ = 0;
};

}  // namespace stoker
