#include "runtime/layers/workspace.h"

#include <algorithm>
#include <array>

#include "numa/bytes.h"
#include "runtime/layers/softmax_attention.h"

namespace stoker {
namespace {

// The buffers and their lengths in floats; every one starts on a cache line.
struct Piece {
  float* Workspace::*pointer;
  int64_t floats;
};

constexpr uint64_t kLineBytes = 64;

uint64_t PieceBytes(const Piece& piece) {
  return AlignUp<uint64_t>(static_cast<uint64_t>(piece.floats) * sizeof(float), kLineBytes);
}

int64_t ScratchFloats(const ModelConfig& config) {
  return static_cast<int64_t>(AlignUp<uint64_t>(SoftmaxScratchFloats(config), 16));
}

std::array<Piece, 15> Pieces(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                             int n_workers) {
  const int64_t hidden = config.hidden_size;
  const int64_t attn_width = config.n_heads * config.head_dim;
  const int64_t kv_width = config.n_kv_heads * config.head_dim;
  const int64_t qkv_width = std::max(3 * attn_width, attn_width + 2 * kv_width);
  return {{
      {&Workspace::x, max_tokens * hidden},
      {&Workspace::h, max_tokens * hidden},
      {&Workspace::u, max_tokens * hidden},
      {&Workspace::y, max_tokens * hidden},
      {&Workspace::qkv, max_tokens * qkv_width},
      {&Workspace::gate, max_tokens * attn_width},
      {&Workspace::attn, max_tokens * attn_width},
      {&Workspace::router_logits, max_tokens * config.n_experts},
      {&Workspace::expert_gate, max_tokens * config.expert_hidden_size},
      {&Workspace::expert_up, max_tokens * config.expert_hidden_size},
      {&Workspace::expert_out, max_tokens * config.n_experts_per_token * hidden},
      {&Workspace::head_in, max_logit_rows * hidden},
      {&Workspace::logits, max_logit_rows * config.vocab_size},
      {&Workspace::softmax_scratch, n_workers * ScratchFloats(config)},
      {&Workspace::softmax_partials, SoftmaxPartialFloats(config)},
  }};
}

int64_t HiddenRows(int64_t max_tokens, int64_t max_logit_rows) {
  return std::max(max_tokens, max_logit_rows);
}

uint64_t BufferBytes(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                     int n_workers) {
  uint64_t total = 0;
  for (const Piece& piece : Pieces(config, max_tokens, max_logit_rows, n_workers)) {
    total += PieceBytes(piece);
  }
  return total;
}

}  // namespace

uint64_t Workspace::BytesFor(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                             int n_workers) {
  const int64_t activations =
      Activations::BytesFor(HiddenRows(max_tokens, max_logit_rows), config.hidden_size) +
      Activations::BytesFor(max_tokens, config.n_heads * config.head_dim) +
      Activations::BytesFor(max_tokens, config.hidden_size) +
      Activations::BytesFor(max_tokens, config.expert_hidden_size);
  return BufferBytes(config, max_tokens, max_logit_rows, n_workers) +
         static_cast<uint64_t>(activations);
}

Workspace::Workspace(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows,
                     int n_workers)
    : buffer(NodeBuffer::Allocate(BufferBytes(config, max_tokens, max_logit_rows, n_workers),
                                  "workspace of the forward pass")),
      softmax_scratch_floats(ScratchFloats(config)),
      router_ids(static_cast<size_t>(max_tokens * config.n_experts_per_token)),
      router_weights(static_cast<size_t>(max_tokens * config.n_experts_per_token)),
      hidden_acts(HiddenRows(max_tokens, max_logit_rows), config.hidden_size),
      attn_acts(max_tokens, config.n_heads * config.head_dim),
      expert_acts(max_tokens, config.hidden_size),
      middle_acts(max_tokens, config.expert_hidden_size) {
  std::byte* next = buffer.data();
  for (const Piece& piece : Pieces(config, max_tokens, max_logit_rows, n_workers)) {
    this->*piece.pointer = reinterpret_cast<float*>(next);
    next += PieceBytes(piece);
  }
}

}  // namespace stoker
