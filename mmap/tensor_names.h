#pragma once

// One table of the tensors an M1-shaped model has: canonical (GGUF) name, checkpoint (safetensors)
// name, which layers carry it, and its shape as a function of the config. Both readers parse names
// and check shapes through it. Pure; thread-safe. It does not know files.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/dtype.h"
#include "mmap/model_config.h"

namespace stoker {

// Where a tensor occurs.
enum class TensorScope : uint8_t {
  kModel,      // once
  kLayer,      // every layer
  kLightning,  // lightning layers only
  kSoftmax,    // softmax layers only
  kExpert,     // every layer; stacked over experts in GGUF, one per expert in safetensors
  kShared,     // every layer, when shared_hidden_size > 0
};

struct TensorRule {
  std::string_view gguf;         // after "blk.N.", with ".weight"; the whole name for kModel
  std::string_view safetensors;  // after "model.layers.N."; after "experts.E." for kExpert
  TensorScope scope;
  // One letter a dimension, slowest first, as in the specification: H hidden, V vocabulary,
  // Q heads * head_dim, T three times that, K kv heads * head_dim, F expert inner, E experts,
  // S shared inner, 1 one. For kExpert without the leading expert dimension.
  std::string_view shape;
};

// A parsed tensor name. layer and expert are -1 where the name has none.
struct TensorKey {
  const TensorRule* rule = nullptr;
  int64_t layer = -1;
  int64_t expert = -1;
};

// nullopt when no rule has such a name. Layer and expert numbers are below 10^9; WhyUnexpected
// checks them against the config. GGUF has one name for the attention output of both layer kinds,
// so the config decides which row is meant.
std::optional<TensorKey> ParseGgufName(std::string_view name, const ModelConfig& config);
std::optional<TensorKey> ParseSafetensorsName(std::string_view name);

// "blk.3.attn_qkv.weight"; a single expert is "blk.3.ffn_gate.7.weight", as in early Mixtral files.
std::string CanonicalName(const TensorKey& key);
// "model.layers.3.self_attn.qkv_proj.weight".
std::string SafetensorsName(const TensorKey& key);

// The shape the config demands, slowest first; stacked over experts when the rule is kExpert and
// key.expert is -1.
std::vector<int64_t> ExpectedShape(const TensorKey& key, const ModelConfig& config);
// Equality up to leading dimensions of one, which the formats drop or keep at will.
bool SameShape(std::span<const int64_t> a, std::span<const int64_t> b);
std::string ShapeText(std::span<const int64_t> shape);  // "[8, 64]"

// Empty when a model of this config has the tensor, else the reason it has not ("layer 9 of 8").
std::string WhyUnexpected(const TensorKey& key, const ModelConfig& config);

// Calls fn for every tensor a model of this config must have, in layer order, until it returns
// false. `stacked`: experts as one tensor (GGUF), else one each (safetensors). Leaves out
// output.weight when tied_embeddings is set.
void ForEachExpectedTensor(const ModelConfig& config, bool stacked,
                           const std::function<bool(const TensorKey&)>& fn);

// Whether a model weight may have this type: floats and quantised blocks, not integers, bool, f64
// or bare 8-bit floats, whose scales these files do not carry.
bool IsWeightType(DType type);

}  // namespace stoker
