#pragma once

// The shape of a model as its file declares it, in one plain value, whichever spelling it came
// from: GGUF metadata (arch minimax-01) or config.json (minimax_m1, minimax_text_01, the -hf
// spelling). Validated once on reading; later code trusts it. It holds no weights and no tokenizer.

#include <cstdint>
#include <string>
#include <vector>

namespace stoker {

enum class AttentionKind : uint8_t { kLightning, kSoftmax };

struct ModelConfig {
  // As the file spells it: "minimax-01", "minimax_m1", "minimax_text_01", "minimax".
  std::string architecture;
  std::string name;          // general.name or the directory's name; may be empty
  int64_t n_layers = 0;
  int64_t hidden_size = 0;   // H
  int64_t vocab_size = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;    // softmax layers
  int64_t head_dim = 0;      // D; n_heads * D need not be H
  int64_t rotary_dim = 0;    // R <= D, even
  double rope_theta = 0.0;
  int64_t expert_hidden_size = 0;  // F, per expert
  int64_t n_experts = 0;
  int64_t n_experts_per_token = 0;
  int64_t shared_hidden_size = 0;  // 0: no shared expert (all released weights)
  int64_t max_position = 0;
  float rms_norm_eps = 1e-5f;
  // eps of the lightning output norm: 1e-6 for safetensors (vendor), rms_norm_eps for GGUF
  // (llama.cpp); see the specification's discrepancy D3.
  float lightning_norm_eps = 1e-6f;
  bool tied_embeddings = false;
  // Residual factors, chosen by attention kind (a: attention) and for the MoE block (m).
  float lightning_alpha = 1.0f, lightning_beta = 1.0f;
  float softmax_alpha = 1.0f, softmax_beta = 1.0f;
  float moe_alpha = 1.0f, moe_beta = 1.0f;
  bool postnorm = true;  // residual taken after the norm
  std::vector<AttentionKind> attention;  // [n_layers]

  int64_t n_lightning_layers() const;
  int64_t n_softmax_layers() const;
};

}  // namespace stoker
