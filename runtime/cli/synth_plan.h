#pragma once

// What a synthetic model file holds: the tensors of a MiniMax-M1 shape, each with its type, shape
// and the distribution of its random weights, and the type mixes of the common quantisation
// presets. Pure values and functions, thread-safe. It writes nothing and knows no random numbers.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/dtype.h"

namespace stoker {

// Defaults: MiniMax-M1's full width, four layers of which the last is softmax attention.
struct SynthShape {
  int64_t n_layers = 4;
  int64_t hidden_size = 6144;
  int64_t n_heads = 64;
  int64_t n_kv_heads = 8;
  int64_t head_dim = 128;
  int64_t rotary_dim = 64;
  int64_t expert_hidden_size = 9216;
  int64_t n_experts = 32;
  int64_t n_experts_per_token = 2;
  int64_t vocab_size = 200064;
  int64_t context_length = 10240000;
  // Layer i is softmax attention iff (i + 1) % interval == 0. 0: 8 as in M1, or n_layers when there
  // are fewer, so that a slice always has a softmax layer.
  int64_t full_attention_interval = 0;

  int64_t interval() const;
  bool is_softmax(int64_t layer) const { return (layer + 1) % interval() == 0; }
  // Throws std::runtime_error naming the flag of the first impossible or contradictory size.
  void Validate() const;
};

// The demo model: every part of M1 (both attention kinds, 32 experts top-2), a few tens of MB.
SynthShape DemoShape();

// A preset of llama-quantize: which type each tensor gets. `gguf_id` is general.file_type.
struct TypeMix {
  std::string_view name;  // "q4_k_m"
  std::string_view title;
  uint32_t gguf_id;
  DType base;
};

std::span<const TypeMix> TypeMixes();
const TypeMix* FindTypeMix(std::string_view name);  // case-insensitive; nullptr when unknown

// Replaces the mix's choice for matrices whose name contains `pattern`; the first match wins.
struct TypeOverride {
  std::string pattern;
  DType type;
};

struct SynthTensor {
  std::string name;
  std::vector<int64_t> shape;  // slowest first
  DType type = DType::kF32;
  float mean = 0.0f;
  float stddev = 0.0f;
  uint64_t bytes = 0;
  int64_t same_as = -1;  // index of the earlier tensor whose bytes these are; -1: its own
};

// All tensors in file order. Matrices have variance 1 / columns, so activations of unit size stay
// so through every product, and the router's logits have variance 1. Throws std::runtime_error
// naming the flag of an impossible size or of an override that no name contains, or the tensor
// whose row is no whole number of blocks of its type.
std::vector<SynthTensor> PlanTensors(const SynthShape& shape, const TypeMix& mix,
                                     std::span<const TypeOverride> overrides);

// Lets only the first n_layers layers of every expert matrix and type have bytes of their own; the
// rest repeat those in turn.
void RepeatExperts(int64_t n_layers, std::vector<SynthTensor>* tensors);

}  // namespace stoker
