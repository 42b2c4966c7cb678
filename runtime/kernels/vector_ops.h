#pragma once

// Element-wise and small vector operations of the model on f32 arrays: norms, activations, the step
// of the lightning recurrence. Each dispatches once per call to the active instruction set (scalar,
// AVX2, AVX-512); the scalar version is the specification. Pure, thread-safe, noexcept, no
// allocation, any length (0 included) and any alignment. Input and output must be the same array or
// not overlap. No matrix products: see runtime/matmul; no attention: see attention_ops.h.
//
// Tolerance of the vector versions against the scalar one: relative 2e-6 of the largest
// intermediate for reductions, 4e-7 relative for exp-based functions.

#include <cstdint>

#include "numa/cpu_features.h"

namespace stoker {

// out[i] = gain[i] * x[i] / sqrt(mean(x^2) + eps). The sum of squares is accumulated in f64.
void RmsNorm(const float* x, const float* gain, float eps, float* out, int64_t n) noexcept;

void Silu(float* x, int64_t n) noexcept;                             // x = x * sigmoid(x)
void SigmoidMul(const float* gate, float* x, int64_t n) noexcept;    // x *= sigmoid(gate)
void SwiGlu(const float* gate, const float* up, float* out, int64_t n) noexcept;  // silu(gate) * up

void Axpy(float a, const float* x, float* y, int64_t n) noexcept;    // y += a x
void ScaleAdd(float a, const float* x, float b, const float* y, float* out,
              int64_t n) noexcept;                                   // out = a x + b y
void Scale(float a, float* x, int64_t n) noexcept;                   // x *= a

// Largest element; -infinity for n = 0.
float MaxValue(const float* x, int64_t n) noexcept;

// x = exp(x - max), *sum = sum of the new x. Arguments below -87.33 become 0 (with max the maximum
// of x they cannot exceed 0; -infinity is allowed). Softmax is this and Scale(1 / sum).
void ExpSumInPlace(float* x, float max, int64_t n, float* sum) noexcept;

// One token of the lightning recurrence for one head (state S is [d, d] f32 row-major, index
// [key, value]; MiniMax-01, arXiv 2501.08313, section 2.2): S = lambda S + k v^T, then
// out = q^T S, in one pass over S. k, v, q, out are [d].
void DecayOuterUpdate(float lambda, const float* k, const float* v, const float* q, float* state,
                      float* out, int64_t d) noexcept;

// The same operations of one instruction set, for tests and benches.
struct VectorOps {
  void (*rms_norm)(const float*, const float*, float, float*, int64_t) noexcept;
  void (*silu)(float*, int64_t) noexcept;
  void (*sigmoid_mul)(const float*, float*, int64_t) noexcept;
  void (*swiglu)(const float*, const float*, float*, int64_t) noexcept;
  void (*axpy)(float, const float*, float*, int64_t) noexcept;
  void (*scale_add)(float, const float*, float, const float*, float*, int64_t) noexcept;
  void (*scale)(float, float*, int64_t) noexcept;
  float (*max_value)(const float*, int64_t) noexcept;
  void (*exp_sum)(float*, float, int64_t, float*) noexcept;
  void (*decay_outer_update)(float, const float*, const float*, const float*, float*, float*,
                             int64_t) noexcept;
};

// The table of a level. The machine must have that level.
const VectorOps& VectorOpsFor(IsaLevel level) noexcept;

}  // namespace stoker
