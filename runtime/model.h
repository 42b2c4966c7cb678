#pragma once

// MiniMax-M1's forward pass: token runs of one or several sequences in, logits out. It knows
// shapes, weights and sequence states; it knows nothing of text, sampling or files. Weights are
// reached through views (dense) and handles (experts). Composed by Engine; engine-thread only.
// The mathematics is that of the technical report (arXiv:2506.13585, arXiv:2501.08313), post-norm
// form:
//   h = RMS(x; g_in);  y = alpha_a h + beta_a Attn(h);  u = RMS(y; g_post);  x' = alpha_m u +
//   beta_m MoE(u).

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "experts/expert_source.h"
#include "experts/row_reader.h"
#include "mmap/model_config.h"
#include "mmap/tensor_view.h"
#include "numa/thread_team.h"
#include "runtime/layers/workspace_size.h"
#include "runtime/matmul/matmul_backend.h"
#include "runtime/sequence_state.h"
#include "runtime/text/token_id.h"

namespace stoker {

enum class LogitRows : uint8_t { kNone, kLast, kAll };

// Consecutive tokens of one sequence, at positions state->position() onwards.
struct TokenRun {
  SequenceState* state = nullptr;
  std::span<const TokenId> ids;
  LogitRows logits = LogitRows::kLast;
};

// Receives what a forward pass makes, on the engine thread, in token order within a run. Spans are
// valid during the call only.
class ForwardSink {
 public:
  virtual ~ForwardSink() = default;
  // logits [vocab_size] f32 after token `token` (index into the run's ids) of runs[run].
  virtual void OnLogits(int64_t run, int64_t token, std::span<const float> logits) = 0;
  // When wants_layers(): the residual stream leaving a layer, x [n_tokens, H], and the router's
  // choice, ids and weights [n_tokens, top_k], for tokens [first_token, first_token + n_tokens) of
  // runs[run].
  virtual bool wants_layers() const { return false; }
  struct LayerResult {
    int64_t run, layer, first_token, n_tokens;
    const float* x;
    const int32_t* router_ids;
    const float* router_weights;
  };
  virtual void OnLayer(const LayerResult&) {}
};

// Wall time per stage and bytes of weights multiplied, summed over forward passes since the last
// Reset.
struct ForwardStats {
  int64_t tokens = 0;
  double attention_seconds = 0, router_seconds = 0, experts_seconds = 0, head_seconds = 0,
         other_seconds = 0;
  double expert_wait_seconds = 0;  // inside experts_seconds: waiting for reads
  int64_t tokens_ahead = 0;        // of a layer, whose projections were computed instead of waiting
  uint64_t expert_weight_bytes = 0;
};

// Bytes a decode step of one token reads, by class, at a given depth.
struct TokenBytes {
  uint64_t attention = 0;  // attention and router matrices, norms
  uint64_t experts = 0;    // top_k experts of every layer
  uint64_t head = 0;       // output matrix; embedding row
  uint64_t state = 0;      // lightning states read and written, KV rows read
  uint64_t weights() const { return attention + experts + head; }
};

// Dense tensors of one layer; views borrow from the weights' owner. Lightning: qkv, gate, norm,
// out. Softmax: q, k, v, out. Unused views have data == nullptr.
struct LayerWeights {
  TensorView attn_norm, ffn_norm;        // [H]
  TensorView qkv, gate, lightning_norm;  // [3 nh D, H], [nh D, H], [nh D]
  TensorView q, k, v;                    // [nh D, H], [nkv D, H], [nkv D, H]
  TensorView out;                        // [H, nh D]
  TensorView router;                     // [E, H]
};

struct ModelWeights {
  TensorView embedding;  // [V, H]
  TensorView output_norm;
  TensorView output;  // [V, H]; the embedding when tied
  std::vector<LayerWeights> layers;
};

class Model {
 public:
  struct Parts {
    ModelConfig config;
    ModelWeights weights;
    ExpertSource* experts = nullptr;  // borrowed
    RowReader* embedding = nullptr;   // borrowed; null: weights.embedding is in memory
    MatmulBackend* matmul = nullptr;  // borrowed
    ThreadTeam* team = nullptr;       // borrowed
    KvTypes kv;          // of NewState
    WorkspaceSize size;  // upper bounds of a chunk and of a sequence
    // Activation forms that the gate and up matrices of any expert may read (mask).
    uint32_t experts_input_forms = 0;
    uint64_t expert_bytes_per_token = 0;  // top_k experts of every layer, at rest
  };
  explicit Model(Parts parts);
  ~Model();

  const ModelConfig& config() const;
  int64_t max_chunk_tokens() const;

  // Feeds every run's tokens and advances its state. Tokens are taken in chunks of at most
  // `chunk_tokens` (0: max_chunk_tokens); the result does not depend on the chunk length beyond
  // rounding. Throws std::invalid_argument for an id outside [0, V) or a run beyond its state's
  // n_ctx (nothing was changed), std::runtime_error when an expert could not be read (the states of
  // this call are then unusable: Reset them). Returns false when *stop became true between chunks
  // (consumed tokens stay consumed).
  bool Forward(std::span<const TokenRun> runs, ForwardSink& sink, int64_t chunk_tokens = 0,
               const std::atomic<bool>* stop = nullptr);

  // An empty sequence of up to n_ctx positions, at most those of Parts::size, placed for this
  // model's team.
  SequenceState NewState(int64_t n_ctx) const;

  TokenBytes BytesPerToken(int64_t depth) const;
  const ForwardStats& stats() const;
  void ResetStats();
  // Bytes of scratch that a model of this shape reserves at construction.
  static uint64_t WorkspaceBytes(const ModelConfig& config, const WorkspaceSize& size, int n_nodes,
                                 int n_workers);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stoker
