#include "mmap/tensor_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>

#include "numa/check.h"

namespace stoker {
namespace {

using enum TensorScope;

constexpr std::array<TensorRule, 21> kRules = {{
    {"token_embd.weight", "model.embed_tokens.weight", kModel, "VH"},
    {"output_norm.weight", "model.norm.weight", kModel, "H"},
    {"output.weight", "lm_head.weight", kModel, "VH"},
    {"attn_norm.weight", "input_layernorm.weight", kLayer, "H"},
    {"attn_qkv.weight", "self_attn.qkv_proj.weight", kLightning, "TH"},
    {"attn_gate.weight", "self_attn.output_gate.weight", kLightning, "QH"},
    {"attn_norm_2.weight", "self_attn.norm.weight", kLightning, "Q"},
    {"attn_output.weight", "self_attn.out_proj.weight", kLightning, "HQ"},
    {"attn_q.weight", "self_attn.q_proj.weight", kSoftmax, "QH"},
    {"attn_k.weight", "self_attn.k_proj.weight", kSoftmax, "KH"},
    {"attn_v.weight", "self_attn.v_proj.weight", kSoftmax, "KH"},
    {"attn_output.weight", "self_attn.o_proj.weight", kSoftmax, "HQ"},
    {"ffn_norm.weight", "post_attention_layernorm.weight", kLayer, "H"},
    {"ffn_gate_inp.weight", "block_sparse_moe.gate.weight", kLayer, "EH"},
    {"ffn_gate_exps.weight", "w1.weight", kExpert, "FH"},
    {"ffn_up_exps.weight", "w3.weight", kExpert, "FH"},
    {"ffn_down_exps.weight", "w2.weight", kExpert, "HF"},
    {"ffn_gate_shexp.weight", "shared_mlp.gate_proj.weight", kShared, "SH"},
    {"ffn_up_shexp.weight", "shared_mlp.up_proj.weight", kShared, "SH"},
    {"ffn_down_shexp.weight", "shared_mlp.down_proj.weight", kShared, "HS"},
    {"ffn_gate_inp_shexp.weight", "coefficient.weight", kShared, "1H"},
}};

// Consumes `prefix` from the front of `text`.
bool Consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Consumes a decimal number without sign or leading zeros and the dot after it. Nine digits at most
// keep every later sum far from overflow.
std::optional<int64_t> ConsumeNumberAndDot(std::string_view& text) {
  const size_t dot = text.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 9) return std::nullopt;
  if (text[0] == '0' && dot > 1) return std::nullopt;
  uint32_t value = 0;  // unsigned, or "-0" would be a number too
  const auto [end, error] = std::from_chars(text.data(), text.data() + dot, value);
  if (error != std::errc() || end != text.data() + dot) return std::nullopt;
  text.remove_prefix(dot + 1);
  return value;
}

bool LayerHas(TensorScope scope, int64_t layer, const ModelConfig& config) {
  const AttentionKind kind = config.attention[static_cast<size_t>(layer)];
  switch (scope) {
    case kLightning:
      return kind == AttentionKind::kLightning;
    case kSoftmax:
      return kind == AttentionKind::kSoftmax;
    case kShared:
      return config.shared_hidden_size > 0;
    case kModel:
    case kLayer:
    case kExpert:
      return true;
  }
  return false;
}

int64_t Dimension(char letter, const ModelConfig& config) {
  switch (letter) {
    case 'H':
      return config.hidden_size;
    case 'V':
      return config.vocab_size;
    case 'Q':
      return config.n_heads * config.head_dim;
    case 'T':
      return 3 * config.n_heads * config.head_dim;
    case 'K':
      return config.n_kv_heads * config.head_dim;
    case 'F':
      return config.expert_hidden_size;
    case 'E':
      return config.n_experts;
    case 'S':
      return config.shared_hidden_size;
    case '1':
      return 1;
    default:
      STOKER_CHECK_MSG(false, "unknown dimension letter in the tensor table");
  }
}

// "ffn_gate_exps.weight" -> "ffn_gate": the stem of a single expert's name.
std::string_view ExpertStem(const TensorRule& rule) {
  return rule.gguf.substr(0, rule.gguf.find("_exps"));
}

}  // namespace

std::optional<TensorKey> ParseGgufName(std::string_view name, const ModelConfig& config) {
  TensorKey key;
  std::string_view rest = name;
  if (Consume(rest, "blk.")) {
    const std::optional<int64_t> layer = ConsumeNumberAndDot(rest);
    if (!layer) return std::nullopt;
    key.layer = *layer;
  }
  for (const TensorRule& rule : kRules) {
    if (rule.gguf != rest || (rule.scope == kModel) != (key.layer < 0)) continue;
    if (key.rule == nullptr) key.rule = &rule;
    if (key.layer >= 0 && key.layer < config.n_layers &&
        LayerHas(rule.scope, key.layer, config)) {
      key.rule = &rule;
    }
  }
  if (key.rule == nullptr) return std::nullopt;
  return key;
}

std::optional<TensorKey> ParseSafetensorsName(std::string_view name) {
  TensorKey key;
  std::string_view rest = name;
  if (Consume(rest, "model.layers.")) {
    const std::optional<int64_t> layer = ConsumeNumberAndDot(rest);
    if (!layer) return std::nullopt;
    key.layer = *layer;
    if (Consume(rest, "block_sparse_moe.experts.")) {
      const std::optional<int64_t> expert = ConsumeNumberAndDot(rest);
      if (!expert) return std::nullopt;
      key.expert = *expert;
    }
  }
  for (const TensorRule& rule : kRules) {
    if (rule.safetensors == rest && (rule.scope == kModel) == (key.layer < 0) &&
        (rule.scope == kExpert) == (key.expert >= 0)) {
      key.rule = &rule;
      return key;
    }
  }
  return std::nullopt;
}

std::string CanonicalName(const TensorKey& key) {
  if (key.layer < 0) return std::string(key.rule->gguf);
  const std::string block = "blk." + std::to_string(key.layer) + ".";
  if (key.expert < 0) return block + std::string(key.rule->gguf);
  return block + std::string(ExpertStem(*key.rule)) + "." + std::to_string(key.expert) + ".weight";
}

std::string SafetensorsName(const TensorKey& key) {
  if (key.layer < 0) return std::string(key.rule->safetensors);
  std::string name = "model.layers." + std::to_string(key.layer) + ".";
  if (key.expert >= 0) name += "block_sparse_moe.experts." + std::to_string(key.expert) + ".";
  return name + std::string(key.rule->safetensors);
}

std::vector<int64_t> ExpectedShape(const TensorKey& key, const ModelConfig& config) {
  std::vector<int64_t> shape;
  if (key.rule->scope == kExpert && key.expert < 0) shape.push_back(config.n_experts);
  for (const char letter : key.rule->shape) shape.push_back(Dimension(letter, config));
  return shape;
}

bool SameShape(std::span<const int64_t> a, std::span<const int64_t> b) {
  const auto strip = [](std::span<const int64_t> shape) {
    while (shape.size() > 1 && shape[0] == 1) shape = shape.subspan(1);
    return shape;
  };
  a = strip(a);
  b = strip(b);
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

std::string WhyUnexpected(const TensorKey& key, const ModelConfig& config) {
  if (key.layer < 0) return "";
  if (key.layer >= config.n_layers) {
    return "layer " + std::to_string(key.layer) + " of a model with " +
           std::to_string(config.n_layers) + " layers";
  }
  if (key.expert >= config.n_experts) {
    return "expert " + std::to_string(key.expert) + " of a model with " +
           std::to_string(config.n_experts) + " experts";
  }
  if (LayerHas(key.rule->scope, key.layer, config)) return "";
  switch (key.rule->scope) {
    case kLightning:
      return "lightning attention tensor in a softmax layer";
    case kSoftmax:
      return "softmax attention tensor in a lightning layer";
    default:
      return "shared expert tensor in a model without a shared expert";
  }
}

void ForEachExpectedTensor(const ModelConfig& config, bool stacked,
                           const std::function<bool(const TensorKey&)>& fn) {
  for (const TensorRule& rule : kRules) {
    if (rule.scope != kModel || (config.tied_embeddings && rule.gguf == "output.weight")) continue;
    if (!fn(TensorKey{&rule, -1, -1})) return;
  }
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    for (const TensorRule& rule : kRules) {
      if (rule.scope == kModel || !LayerHas(rule.scope, layer, config)) continue;
      if (rule.scope != kExpert || stacked) {
        if (!fn(TensorKey{&rule, layer, -1})) return;
        continue;
      }
      for (int64_t expert = 0; expert < config.n_experts; ++expert) {
        if (!fn(TensorKey{&rule, layer, expert})) return;
      }
    }
  }
}

bool IsWeightType(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 ||
         Info(type).block_elements > 1;
}

}  // namespace stoker
