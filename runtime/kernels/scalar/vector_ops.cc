// The specification of vector_ops.h: short and obvious, never optimised.

#include "runtime/kernels/vector_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/kernels/isa_tables.h"

namespace stoker::scalar {
namespace {

float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

void RmsNorm(const float* x, const float* gain, float eps, float* out, int64_t n) noexcept {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double mean = n > 0 ? sum / static_cast<double>(n) : 0.0;
  const float scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  for (int64_t i = 0; i < n; ++i) out[i] = gain[i] * (x[i] * scale);
}

void Silu(float* x, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) x[i] *= Sigmoid(x[i]);
}

void SigmoidMul(const float* gate, float* x, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) x[i] *= Sigmoid(gate[i]);
}

void SwiGlu(const float* gate, const float* up, float* out, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] * Sigmoid(gate[i]) * up[i];
}

void Axpy(float a, const float* x, float* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void ScaleAdd(float a, const float* x, float b, const float* y, float* out, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) out[i] = a * x[i] + b * y[i];
}

void Scale(float a, float* x, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) x[i] *= a;
}

float MaxValue(const float* x, int64_t n) noexcept {
  float max = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) max = std::max(max, x[i]);
  return max;
}

void ExpSumInPlace(float* x, float max, int64_t n, float* sum) noexcept {
  double total = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    const float argument = x[i] - max;
    x[i] = argument < -87.33f ? 0.0f : std::exp(argument);
    total += x[i];
  }
  *sum = static_cast<float>(total);
}

void DecayOuterUpdate(float lambda, const float* k, const float* v, const float* q, float* state,
                      float* out, int64_t d) noexcept {
  for (int64_t j = 0; j < d; ++j) out[j] = 0.0f;
  for (int64_t i = 0; i < d; ++i) {
    float* row = state + i * d;
    for (int64_t j = 0; j < d; ++j) {
      row[j] = lambda * row[j] + k[i] * v[j];
      out[j] += q[i] * row[j];
    }
  }
}

}  // namespace

const VectorOps kVectorOps = {
    .rms_norm = RmsNorm,
    .silu = Silu,
    .sigmoid_mul = SigmoidMul,
    .swiglu = SwiGlu,
    .axpy = Axpy,
    .scale_add = ScaleAdd,
    .scale = Scale,
    .max_value = MaxValue,
    .exp_sum = ExpSumInPlace,
    .decay_outer_update = DecayOuterUpdate,
};

}  // namespace stoker::scalar
