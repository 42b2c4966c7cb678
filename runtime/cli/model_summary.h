#pragma once

// What a weight store holds, counted: parameters, bytes by role and by type, memory needs. The
// figures behind the banner, `inspect` and the bench rows. Pure functions of a store; thread-safe.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "mmap/weight_store.h"

namespace stoker {

struct ModelSummary {
  uint64_t n_parameters = 0;  // by the shape, whatever the encoding
  uint64_t n_active_parameters =
      0;  // used for one token: everything but the experts not chosen; no embedding
  uint64_t total_bytes = 0;       // of tensor data
  uint64_t attention_bytes = 0;   // attention matrices, norms and routers
  uint64_t expert_bytes = 0;      // all experts
  uint64_t embedding_bytes = 0;   // token_embd
  uint64_t head_bytes = 0;        // output; 0 when tied
  uint64_t one_expert_bytes = 0;  // three matrices of the largest expert
  struct TypeCount {
    int64_t tensors = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, TypeCount> types;  // by type name
  std::string main_type;                   // the type with the most bytes

  double bits_per_weight() const;
  uint64_t dense_bytes() const { return total_bytes - expert_bytes; }
};

ModelSummary Summarise(const WeightStore& store);

// "456B", "12.3M".
std::string FormatCount(uint64_t n);

// "minimax-01 456B Q4_K": architecture, size, main type.
std::string ModelTypeLabel(const WeightStore& store);

// The line a command opens with: version, model, shape, size, seconds to load.
std::string Banner(const WeightStore& store, double load_seconds);

}  // namespace stoker
