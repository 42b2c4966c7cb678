#pragma once

// What the scratch of a forward pass is sized for. A value.

#include <cstdint>

namespace stoker {

struct WorkspaceSize {
  int64_t max_tokens = 512;     // of a chunk
  int64_t max_logit_rows = 64;  // whose logits are computed at once
  int64_t n_ctx = 8192;         // longest sequence
  bool residual = true;         // activations with residual rows (ActivationRoom)
  int64_t rows_ahead = 0;       // of the next layer's projections (projections_ahead.h)
  bool bf16_parts = true;       // activations in parts of bf16
  bool f32_experts = true;      // experts that read activations in f32
};

}  // namespace stoker
