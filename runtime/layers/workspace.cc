#include "runtime/layers/workspace.h"

#include <algorithm>
#include <vector>

#include "numa/bytes.h"
#include "runtime/layers/lightning_attention.h"
#include "runtime/layers/projections_ahead.h"
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

int64_t HeadScratchFloats(const ModelConfig& config) {
  const int64_t floats = std::max(SoftmaxScratchFloats(config), LightningScratchFloats(config));
  return static_cast<int64_t>(AlignUp<uint64_t>(floats, 16));
}

template <typename T>
using Pieces = std::vector<Piece<T>>;

// Rows that a piece of a chunk has at most.
int64_t PieceRows(const WorkspaceSize& size) { return std::min(size.max_tokens, kPieceTokens); }

Pieces<NodeWorkspace> NodePieces(const ModelConfig& config, const WorkspaceSize& size,
                                 int n_nodes) {
  const int64_t hidden = config.hidden_size;
  Pieces<NodeWorkspace> pieces = {
      {&NodeWorkspace::x, size.max_tokens * hidden},
      {&NodeWorkspace::h, size.max_tokens * hidden},
      {&NodeWorkspace::head_in, size.max_logit_rows * hidden},
  };
  if (n_nodes > 1) {
    pieces.push_back({&NodeWorkspace::y, size.max_tokens * hidden});
    pieces.push_back({&NodeWorkspace::attn, PieceRows(size) * config.n_heads * config.head_dim});
  }
  return pieces;
}

// What lasts, and then two that are not used at the same time.
struct SharedPieces {
  Pieces<Workspace> lasting, attention, experts;
};

SharedPieces MakeSharedPieces(const ModelConfig& config, const WorkspaceSize& size,
                              int n_workers) {
  const int64_t max_tokens = size.max_tokens;
  const int64_t hidden = config.hidden_size;
  const int64_t attn_width = config.n_heads * config.head_dim;
  const int64_t kv_width = config.n_kv_heads * config.head_dim;
  const int64_t piece_rows = PieceRows(size);
  const int64_t expert_rows = std::max<int64_t>(piece_rows, 2);
  const int64_t qkv_width = std::max(3 * attn_width, attn_width + 2 * kv_width);
  return {
      .lasting = {{&Workspace::y, max_tokens * hidden},
                  {&Workspace::router_logits, max_tokens * config.n_experts},
                  {&Workspace::logits, size.max_logit_rows * config.vocab_size},
                  {&Workspace::ahead_store, ProjectionsAhead::StoreFloats(config, size)},
                  {&Workspace::ahead_input, ProjectionsAhead::InputFloats(config, size)}},
      .attention = {{&Workspace::qkv, piece_rows * qkv_width},
                    {&Workspace::gate, piece_rows * attn_width},
                    {&Workspace::attn, piece_rows * attn_width},
                    {&Workspace::head_scratch, n_workers * HeadScratchFloats(config)},
                    {&Workspace::softmax_partials, SoftmaxPartialFloats(config, size.n_ctx)}},
      .experts = {{&Workspace::expert_gate, expert_rows * config.expert_hidden_size},
                  {&Workspace::expert_up, expert_rows * config.expert_hidden_size},
                  {&Workspace::expert_out, max_tokens * config.n_experts_per_token * hidden}}};
}

template <typename T>
uint64_t BytesOf(const Pieces<T>& pieces) {
  uint64_t total = 0;
  for (const Piece<T>& piece : pieces) {
    total += AlignUp<uint64_t>(static_cast<uint64_t>(piece.floats) * sizeof(float), kLineBytes);
  }
  return total;
}

uint64_t BytesOf(const SharedPieces& pieces) {
  return BytesOf(pieces.lasting) + std::max(BytesOf(pieces.attention), BytesOf(pieces.experts));
}

template <typename T>
void CutBuffer(const Pieces<T>& pieces, std::byte* next, T& workspace) {
  for (const Piece<T>& piece : pieces) {
    workspace.*piece.pointer = reinterpret_cast<float*>(next);
    next += AlignUp<uint64_t>(static_cast<uint64_t>(piece.floats) * sizeof(float), kLineBytes);
  }
}

int64_t HiddenRows(const WorkspaceSize& size) {
  return std::max(size.max_tokens, size.max_logit_rows);
}

// Of the inputs of products; only an expert's rows are gathered.
ActivationRoom Room(const WorkspaceSize& size) {
  return {.gathered_f32 = false, .residual = size.residual, .bf16_parts = size.bf16_parts};
}
ActivationRoom ExpertRoom(const WorkspaceSize& size) {
  ActivationRoom room = Room(size);
  room.gathered_f32 = size.f32_experts;
  return room;
}

}  // namespace

NodeWorkspace::NodeWorkspace(const ModelConfig& config, const WorkspaceSize& size, int n_nodes,
                             int os_node)
    : buffer(NodeBuffer::Allocate(BytesOf(NodePieces(config, size, n_nodes)),
                                  "a node's part of the workspace", os_node)),
      hidden_acts(HiddenRows(size), config.hidden_size, ActiveIsaLevel(), Room(size)),
      attn_acts(PieceRows(size), config.n_heads * config.head_dim, ActiveIsaLevel(), Room(size)),
      expert_acts(PieceRows(size), config.hidden_size, ActiveIsaLevel(), ExpertRoom(size)),
      middle_acts(PieceRows(size), config.expert_hidden_size, ActiveIsaLevel(), Room(size)),
      second_middle_acts(1, config.expert_hidden_size, ActiveIsaLevel(), Room(size)) {
  CutBuffer(NodePieces(config, size, n_nodes), buffer.data(), *this);
}

uint64_t Workspace::BytesFor(const ModelConfig& config, const WorkspaceSize& size, int n_nodes,
                             int n_workers) {
  const int64_t activations =
      Activations::BytesFor(HiddenRows(size), config.hidden_size, Room(size)) +
      Activations::BytesFor(PieceRows(size), config.n_heads * config.head_dim, Room(size)) +
      Activations::BytesFor(PieceRows(size), config.hidden_size, ExpertRoom(size)) +
      Activations::BytesFor(PieceRows(size), config.expert_hidden_size, Room(size)) +
      Activations::BytesFor(1, config.expert_hidden_size, Room(size));
  const uint64_t per_node =
      BytesOf(NodePieces(config, size, n_nodes)) + static_cast<uint64_t>(activations);
  return per_node * static_cast<uint64_t>(n_nodes) +
         BytesOf(MakeSharedPieces(config, size, n_workers));
}

Workspace::Workspace(const ModelConfig& config, const WorkspaceSize& size,
                     const Partition& partition)
    : head_scratch_floats(HeadScratchFloats(config)),
      most_splits(MostSplits(size.n_ctx)),
      router_ids(static_cast<size_t>(size.max_tokens * config.n_experts_per_token)),
      router_weights(static_cast<size_t>(size.max_tokens * config.n_experts_per_token)) {
  const auto n_nodes = static_cast<int>(partition.nodes().size());
  for (const Partition::Node& node : partition.nodes()) {
    nodes.emplace_back(config, size, n_nodes, node.memory.front().os_node);
  }
  const SharedPieces pieces = MakeSharedPieces(config, size, partition.n_workers());
  buffer = NodeBuffer::Allocate(BytesOf(pieces), "workspace of the forward pass");
  CutBuffer(pieces.lasting, buffer.data(), *this);
  std::byte* const rest = buffer.data() + BytesOf(pieces.lasting);
  CutBuffer(pieces.attention, rest, *this);
  CutBuffer(pieces.experts, rest, *this);
  if (n_nodes > 1) return;
  nodes.front().y = y;
  nodes.front().attn = attn;
}

}  // namespace stoker
