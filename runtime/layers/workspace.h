#pragma once

// The scratch of a forward pass and what a layer function is given: one context object passed by
// reference down the layer functions. All buffers are allocated when the model is built and sized
// for the largest chunk, so the token path allocates nothing. Engine-thread only; within
// ThreadTeam::Run every worker writes only its own share.

#include <cstdint>
#include <span>
#include <vector>

#include "mmap/model_config.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"
#include "runtime/layers/segments.h"
#include "runtime/layers/workspace_size.h"
#include "runtime/matmul/activations.h"
#include "runtime/matmul/matmul_backend.h"

namespace stoker {

// Of a chunk's tokens so many go through attention at a time, and of those that chose an expert so
// many through it: the scratch of either need not grow with the chunk, and products of more tokens
// gain nothing.
inline constexpr int64_t kPieceTokens = 256;

// What every node keeps for itself, in its own memory: the inputs of its products, made by its own
// workers from what the nodes exchange. T = max_tokens, P = those of a piece; H hidden, A = n_heads
// * head_dim, F expert hidden, E experts.
struct NodeWorkspace {
  NodeWorkspace(const ModelConfig& config, const WorkspaceSize& size, int n_nodes, int os_node);

  NodeBuffer buffer;
  float* x = nullptr;        // [T, H] residual stream
  float* h = nullptr;        // [T, H] normalised input, first of attention, then of the experts
  float* y = nullptr;        // [T, H] the sum under the second norm; one node's: ws.y
  float* attn = nullptr;     // [P, A] lightning heads, normalised and gated; one node's: ws.attn
  float* head_in = nullptr;  // [max_logit_rows, H]

  Activations hidden_acts;         // of h, head_in: k = H
  Activations attn_acts;           // of the heads: k = A
  Activations expert_acts;         // rows of h gathered for one expert: k = H
  Activations middle_acts;         // of SiLU(gate) * up: k = F
  Activations second_middle_acts;  // the same of a token's other expert: m = 1
};

// What the nodes share: results of products and heads, each part written on the node that owns its
// rows. Those marked (exchanged) are what one node reads of another, between two barriers of all.
// Those of attention and those of experts lie in the same memory: when a layer's experts begin,
// nothing of its attention is read any more but y.
struct Workspace {
  Workspace(const ModelConfig& config, const WorkspaceSize& size, const Partition& partition);

  // What the constructor reserves; pages that a run never uses are never touched.
  static uint64_t BytesFor(const ModelConfig& config, const WorkspaceSize& size, int n_nodes,
                           int n_workers);

  // One worker's, for either attention.
  float* HeadScratch(int worker) const { return head_scratch + worker * head_scratch_floats; }

  std::vector<NodeWorkspace> nodes;  // by Worker::node

  NodeBuffer buffer;
  float* y = nullptr;              // [T, H] attention output (exchanged)
  float* router_logits = nullptr;  // [T, E], written by the first node
  float* logits = nullptr;         // [max_logit_rows, V]
  float* ahead_store = nullptr;    // see projections_ahead.h
  float* ahead_input = nullptr;    // the same
  // Attention.
  float* qkv = nullptr;               // [P, max(3A, A + 2 n_kv_heads D)]
  float* gate = nullptr;              // [P, A] lightning output gate (exchanged with attn)
  float* attn = nullptr;              // [P, A] concatenated heads (exchanged)
  float* head_scratch = nullptr;      // [n_workers, head_scratch_floats], see HeadScratch
  int64_t head_scratch_floats = 0;    // per worker
  float* softmax_partials = nullptr;  // [n_heads, most_splits, D + 2]
  int64_t most_splits = 0;            // see softmax_attention.h
  // Experts.
  float* expert_gate = nullptr;  // [max(P, 2), F], then SiLU(gate) * up (exchanged)
  float* expert_up = nullptr;    // [max(P, 2), F]
  float* expert_out = nullptr;   // [T * top_k, H] down outputs, by expert (exchanged)

  std::vector<int32_t> router_ids;    // [T, top_k]
  std::vector<float> router_weights;  // [T, top_k]
};

struct LayerContext {
  const ModelConfig& config;
  MatmulBackend& matmul;
  ThreadTeam& team;
  Workspace& ws;
  std::span<const Segment> segments;
  int64_t n_tokens = 0;  // rows in use: of a chunk, or in attention of one of its pieces
};

}  // namespace stoker
