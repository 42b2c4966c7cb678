#include "runtime/cli/synth_plan.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <stdexcept>
#include <utility>

namespace stoker {
namespace {

// general.file_type numbers are llama.cpp's llama_ftype.
constexpr std::array<TypeMix, 17> kMixes = {{
    {"f32", "F32", 0, DType::kF32},
    {"f16", "F16", 1, DType::kF16},
    {"bf16", "BF16", 32, DType::kBF16},
    {"q8_0", "Q8_0", 7, DType::kQ8_0},
    {"q6_k", "Q6_K", 18, DType::kQ6_K},
    {"q5_k_m", "Q5_K - Medium", 17, DType::kQ5_K},
    {"q5_k_s", "Q5_K - Small", 16, DType::kQ5_K},
    {"q5_1", "Q5_1", 9, DType::kQ5_1},
    {"q5_0", "Q5_0", 8, DType::kQ5_0},
    {"q4_k_m", "Q4_K - Medium", 15, DType::kQ4_K},
    {"q4_k_s", "Q4_K - Small", 14, DType::kQ4_K},
    {"q4_1", "Q4_1", 3, DType::kQ4_1},
    {"q4_0", "Q4_0", 2, DType::kQ4_0},
    {"iq4_nl", "IQ4_NL - 4.5 bpw", 25, DType::kIQ4_NL},
    {"iq4_xs", "IQ4_XS - 4.25 bpw", 30, DType::kIQ4_XS},
    {"q3_k_m", "Q3_K - Medium", 12, DType::kQ3_K},
    {"q2_k", "Q2_K - Medium", 10, DType::kQ2_K},
}};

// The layers that get a wider type in the _M mixes: the first and last eighth, and every third
// between.
bool UsesMoreBits(int64_t layer, int64_t n_layers) {
  return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The choice llama-quantize makes (without an importance matrix) for one matrix of this model
// family, so that a synthetic file has the byte mix of a real one.
DType MixedType(const SynthShape& shape, const TypeMix& mix, std::string_view name, int64_t layer) {
  const bool is_plain = Info(mix.base).block_elements == 1;
  if (is_plain || mix.name == "q8_0") return mix.base;
  if (name == "output.weight") return DType::kQ6_K;

  const int64_t n = shape.n_layers;
  const bool many_heads_per_kv = shape.n_heads / shape.n_kv_heads >= 4;
  const bool more_bits = layer >= 0 && UsesMoreBits(layer, n);
  if (Contains(name, "attn_v.") || Contains(name, "attn_qkv.")) {
    if (mix.name == "q2_k") return many_heads_per_kv ? DType::kQ4_K : DType::kQ3_K;
    if (mix.name == "q3_k_m") return layer < 2 ? DType::kQ5_K : DType::kQ4_K;
    if (mix.name.starts_with("iq4") && many_heads_per_kv) return DType::kQ5_K;
    if (mix.name.ends_with("_m") && more_bits) return DType::kQ6_K;
    if (mix.name == "q4_k_s" && layer < 4) return DType::kQ5_K;
  } else if (Contains(name, "ffn_down")) {
    if (mix.name == "q2_k") return DType::kQ3_K;
    if (mix.name == "q3_k_m") return layer < n / 16 ? DType::kQ5_K : DType::kQ4_K;
    if (mix.name.starts_with("iq4") && layer < n / 8) return DType::kQ5_K;
    if (mix.name.ends_with("_m") && more_bits) return DType::kQ6_K;
    if (mix.name == "q4_k_s" && layer < n / 8) return DType::kQ5_K;
  } else if (Contains(name, "attn_output")) {
    if (mix.name == "q2_k") return DType::kQ3_K;
    if (mix.name == "q3_k_m") return DType::kQ4_K;
  }
  return mix.base;
}

// Type of a matrix whose rows are no whole number of 256-element blocks, as llama-quantize falls
// back.
DType Fallback(DType type, int64_t cols) {
  if (Info(type).block_elements != 256 || cols % 256 == 0) return type;
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K:
      return DType::kQ4_0;
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    case DType::kQ6_K:
      return DType::kQ8_0;
    default:
      return DType::kIQ4_NL;
  }
}

void Require(bool holds, const std::string& message) {
  if (!holds) throw std::runtime_error(message);
}

class Planner {
 public:
  Planner(const SynthShape& shape, const TypeMix& mix, std::span<const TypeOverride> overrides)
      : shape_(shape), mix_(mix), overrides_(overrides), matched_(overrides.size(), false) {}

  // A matrix [.., cols] of variance 1 / cols unless `stddev` says otherwise.
  void Matrix(const std::string& name, int64_t layer, std::vector<int64_t> dims,
              float stddev = 0.0f) {
    const int64_t cols = dims.back();
    DType type = MixedType(shape_, mix_, name, layer);
    bool is_replaced = false;
    for (size_t i = 0; i < overrides_.size(); ++i) {
      if (!Contains(name, overrides_[i].pattern)) continue;
      matched_[i] = true;
      if (!std::exchange(is_replaced, true)) type = overrides_[i].type;
    }
    if (stddev == 0.0f) stddev = 1.0f / std::sqrt(static_cast<float>(cols));
    Add({name, std::move(dims), Fallback(type, cols), 0.0f, stddev, 0});
  }

  // Norm weights near one and the router: F32 in every mix.
  void Norm(const std::string& name, int64_t size) {
    Add({name, {size}, DType::kF32, 1.0f, 0.1f, 0});
  }
  void Router(const std::string& name, int64_t n_experts, int64_t hidden) {
    Add({name,
         {n_experts, hidden},
         DType::kF32,
         0.0f,
         1.0f / std::sqrt(static_cast<float>(hidden)),
         0});
  }

  std::vector<SynthTensor> Take() {
    for (size_t i = 0; i < overrides_.size(); ++i) {
      Require(matched_[i], "--tensor-type: no matrix's name contains " + overrides_[i].pattern);
    }
    return std::move(tensors_);
  }

 private:
  void Add(SynthTensor tensor) {
    uint64_t elements = 1;
    for (const int64_t dim : tensor.shape) elements *= static_cast<uint64_t>(dim);
    const DTypeInfo& info = Info(tensor.type);
    const std::optional<uint64_t> bytes = TypedBytes(tensor.type, elements);
    Require(bytes.has_value() && tensor.shape.back() % info.block_elements == 0,
            "a row of " + tensor.name + " has " + std::to_string(tensor.shape.back()) +
                " elements, no whole number of " + std::string(info.name) + " blocks of " +
                std::to_string(info.block_elements));
    tensor.bytes = *bytes;
    tensors_.push_back(std::move(tensor));
  }

  const SynthShape& shape_;
  const TypeMix& mix_;
  std::span<const TypeOverride> overrides_;
  std::vector<bool> matched_;  // of each override: some matrix's name contains it
  std::vector<SynthTensor> tensors_;
};

}  // namespace

int64_t SynthShape::interval() const {
  return full_attention_interval > 0 ? full_attention_interval : std::min<int64_t>(8, n_layers);
}

void SynthShape::Validate() const {
  const auto in_range = [](int64_t value, int64_t low, int64_t high, const char* flag) {
    Require(value >= low && value <= high, std::string(flag) + " must be in " +
                                               std::to_string(low) + ".." + std::to_string(high) +
                                               ", not " + std::to_string(value));
  };
  // Two layers at least: the decay of a lightning layer divides by n_layers - 1.
  in_range(n_layers, 2, 512, "--layers");
  in_range(hidden_size, 32, 65536, "--hidden");
  in_range(n_heads, 1, 1024, "--heads");
  in_range(n_kv_heads, 1, n_heads, "--kv-heads");
  in_range(head_dim, 8, 1024, "--head-dim");
  in_range(rotary_dim, 2, head_dim, "--rotary-dim");
  in_range(expert_hidden_size, 32, 262144, "--expert-hidden");
  in_range(n_experts, 1, 1024, "--experts");
  in_range(n_experts_per_token, 1, n_experts, "--experts-used");
  in_range(vocab_size, 512, 200064, "--vocab");
  in_range(context_length, 1, int64_t{1} << 31, "--context");
  in_range(full_attention_interval, 0, n_layers, "--full-attention-interval");
  Require(n_heads % n_kv_heads == 0, "--heads must be a multiple of --kv-heads");
  Require(rotary_dim % 2 == 0, "--rotary-dim must be even");
}

SynthShape DemoShape() {
  SynthShape shape;
  shape.n_layers = 8;
  shape.hidden_size = 256;
  shape.n_heads = 8;
  shape.n_kv_heads = 2;
  shape.head_dim = 64;
  shape.rotary_dim = 32;
  shape.expert_hidden_size = 256;
  shape.vocab_size = 4096;
  shape.context_length = 1 << 20;
  return shape;
}

std::span<const TypeMix> TypeMixes() { return kMixes; }

const TypeMix* FindTypeMix(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto found = std::find_if(kMixes.begin(), kMixes.end(),
                                  [&](const TypeMix& mix) { return mix.name == lower; });
  return found == kMixes.end() ? nullptr : &*found;
}

std::vector<SynthTensor> PlanTensors(const SynthShape& shape, const TypeMix& mix,
                                     std::span<const TypeOverride> overrides) {
  shape.Validate();
  const int64_t hidden = shape.hidden_size;
  const int64_t q_width = shape.n_heads * shape.head_dim;
  const int64_t kv_width = shape.n_kv_heads * shape.head_dim;
  const int64_t inner = shape.expert_hidden_size;

  Planner plan(shape, mix, overrides);
  plan.Matrix("token_embd.weight", -1, {shape.vocab_size, hidden}, 1.0f);
  for (int64_t layer = 0; layer < shape.n_layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    plan.Norm(prefix + "attn_norm.weight", hidden);
    if (shape.is_softmax(layer)) {
      plan.Matrix(prefix + "attn_q.weight", layer, {q_width, hidden});
      plan.Matrix(prefix + "attn_k.weight", layer, {kv_width, hidden});
      plan.Matrix(prefix + "attn_v.weight", layer, {kv_width, hidden});
    } else {
      plan.Matrix(prefix + "attn_qkv.weight", layer, {3 * q_width, hidden});
      plan.Matrix(prefix + "attn_gate.weight", layer, {q_width, hidden});
      plan.Norm(prefix + "attn_norm_2.weight", q_width);
    }
    plan.Matrix(prefix + "attn_output.weight", layer, {hidden, q_width});
    plan.Norm(prefix + "ffn_norm.weight", hidden);
    plan.Router(prefix + "ffn_gate_inp.weight", shape.n_experts, hidden);
    plan.Matrix(prefix + "ffn_gate_exps.weight", layer, {shape.n_experts, inner, hidden});
    plan.Matrix(prefix + "ffn_up_exps.weight", layer, {shape.n_experts, inner, hidden});
    plan.Matrix(prefix + "ffn_down_exps.weight", layer, {shape.n_experts, hidden, inner});
  }
  plan.Norm("output_norm.weight", hidden);
  plan.Matrix("output.weight", -1, {shape.vocab_size, hidden});
  return plan.Take();
}

void RepeatExperts(int64_t n_layers, std::vector<SynthTensor>* tensors) {
  struct Sources {
    std::vector<int64_t> tensors;
    size_t next = 0;
  };
  std::map<std::pair<std::string, DType>, Sources> by_kind;
  for (size_t i = 0; i < tensors->size(); ++i) {
    SynthTensor& tensor = (*tensors)[i];
    if (!Contains(tensor.name, "_exps.")) continue;
    const std::string matrix = tensor.name.substr(tensor.name.find("ffn_"));
    Sources& sources = by_kind[{matrix, tensor.type}];
    if (static_cast<int64_t>(sources.tensors.size()) < n_layers) {
      sources.tensors.push_back(static_cast<int64_t>(i));
    } else {
      tensor.same_as = sources.tensors[sources.next];
      sources.next = (sources.next + 1) % sources.tensors.size();
    }
  }
}

}  // namespace stoker
