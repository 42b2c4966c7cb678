#include "runtime/layers/workspace.h"

#include <algorithm>
#include <array>

#include "numa/bytes.h"
#include "runtime/layers/softmax_attention.h"

namespace stoker {
namespace {

constexpr uint64_t kLineBytes = 64;

// The buffers of T and their lengths in floats; every one starts on a cache line.
template <typename T>
struct Piece {
  float* T::*pointer;
  int64_t floats;
};

int64_t ScratchFloats(const ModelConfig& config) {
  return static_cast<int64_t>(AlignUp<uint64_t>(SoftmaxScratchFloats(config), 16));
}

std::array<Piece<NodeWorkspace>, 6> NodePieces(const ModelConfig& config, int64_t max_tokens,
                                               int64_t max_logit_rows) {
  const int64_t hidden = config.hidden_size;
  return {{
      {&NodeWorkspace::x, max_tokens * hidden},
      {&NodeWorkspace::h, max_tokens * hidden},
      {&NodeWorkspace::u, max_tokens * hidden},
      {&NodeWorkspace::y, max_tokens * hidden},
      {&NodeWorkspace::attn, max_tokens * config.n_heads * config.head_dim},
      {&NodeWorkspace::head_in, max_logit_rows * hidden},
  }};
}

std::array<Piece<Workspace>, 11> SharedPieces(const ModelConfig& config, int64_t max_tokens,
                                              int64_t max_logit_rows, int n_workers) {
  const int64_t hidden = config.hidden_size;
  const int64_t attn_width = config.n_heads * config.head_dim;
  const int64_t kv_width = config.n_kv_heads * config.head_dim;
  const int64_t expert_rows = std::max<int64_t>(max_tokens, 2);
  const int64_t qkv_width = std::max(3 * attn_width, attn_width + 2 * kv_width);
  return {{
      {&Workspace::qkv, max_tokens * qkv_width},
      {&Workspace::gate, max_tokens * attn_width},
      {&Workspace::attn, max_tokens * attn_width},
      {&Workspace::y, max_tokens * hidden},
      {&Workspace::router_logits, max_tokens * config.n_experts},
      {&Workspace::expert_gate, expert_rows * config.expert_hidden_size},
      {&Workspace::expert_up, expert_rows * config.expert_hidden_size},
      {&Workspace::expert_out, max_tokens * config.n_experts_per_token * hidden},
      {&Workspace::logits, max_logit_rows * config.vocab_size},
      {&Workspace::softmax_scratch, n_workers * ScratchFloats(config)},
      {&Workspace::softmax_partials, SoftmaxPartialFloats(config)},
  }};
}

template <typename T, size_t N>
uint64_t BytesOf(const std::array<Piece<T>, N>& pieces) {
  uint64_t total = 0;
  for (const Piece<T>& piece : pieces) {
    total += AlignUp<uint64_t>(static_cast<uint64_t>(piece.floats) * sizeof(float), kLineBytes);
  }
  return total;
}

template <typename T, size_t N>
void CutBuffer(const std::array<Piece<T>, N>& pieces, T& workspace) {
  std::byte* next = workspace.buffer.data();
  for (const Piece<T>& piece : pieces) {
    workspace.*piece.pointer = reinterpret_cast<float*>(next);
    next += AlignUp<uint64_t>(static_cast<uint64_t>(piece.floats) * sizeof(float), kLineBytes);
  }
}

int64_t HiddenRows(int64_t max_tokens, int64_t max_logit_rows) {
  return std::max(max_tokens, max_logit_rows);
}

}  // namespace

NodeWorkspace::NodeWorkspace(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                             int os_node)
    : buffer(NodeBuffer::Allocate(BytesOf(NodePieces(config, max_tokens, max_logit_rows)),
                                  "a node's part of the workspace", os_node)),
      hidden_acts(HiddenRows(max_tokens, max_logit_rows), config.hidden_size),
      attn_acts(max_tokens, config.n_heads * config.head_dim),
      expert_acts(max_tokens, config.hidden_size),
      middle_acts(max_tokens, config.expert_hidden_size),
      second_middle_acts(1, config.expert_hidden_size) {
  CutBuffer(NodePieces(config, max_tokens, max_logit_rows), *this);
}

uint64_t Workspace::BytesFor(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                             int n_nodes, int n_workers) {
  const int64_t activations =
      Activations::BytesFor(HiddenRows(max_tokens, max_logit_rows), config.hidden_size) +
      Activations::BytesFor(max_tokens, config.n_heads * config.head_dim) +
      Activations::BytesFor(max_tokens, config.hidden_size) +
      Activations::BytesFor(max_tokens, config.expert_hidden_size) +
      Activations::BytesFor(1, config.expert_hidden_size);
  const uint64_t per_node =
      BytesOf(NodePieces(config, max_tokens, max_logit_rows)) + static_cast<uint64_t>(activations);
  return per_node * static_cast<uint64_t>(n_nodes) +
         BytesOf(SharedPieces(config, max_tokens, max_logit_rows, n_workers));
}

Workspace::Workspace(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                     const Partition& partition)
    : softmax_scratch_floats(ScratchFloats(config)),
      router_ids(static_cast<size_t>(max_tokens * config.n_experts_per_token)),
      router_weights(static_cast<size_t>(max_tokens * config.n_experts_per_token)) {
  for (const Partition::Node& node : partition.nodes()) {
    nodes.emplace_back(config, max_tokens, max_logit_rows, node.memory.front().os_node);
  }
  const auto pieces = SharedPieces(config, max_tokens, max_logit_rows, partition.n_workers());
  buffer = NodeBuffer::Allocate(BytesOf(pieces), "workspace of the forward pass");
  CutBuffer(pieces, *this);
}

}  // namespace stoker
