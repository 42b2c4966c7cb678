#include "runtime/kernels/vector_ops.h"

#include "runtime/kernels/isa_tables.h"

namespace stoker {
namespace {

const VectorOps& Active() noexcept {
  static const VectorOps& ops = VectorOpsFor(ActiveIsaLevel());
  return ops;
}

}  // namespace

const VectorOps& VectorOpsFor(IsaLevel level) noexcept {
  switch (level) {
    case IsaLevel::kScalar: break;
    case IsaLevel::kAvx2: return avx2::kVectorOps;
    case IsaLevel::kAvx512: return avx512::kVectorOps;
  }
  return scalar::kVectorOps;
}

void RmsNorm(const float* x, const float* gain, float eps, float* out, int64_t n) noexcept {
  Active().rms_norm(x, gain, eps, out, n);
}
void Silu(float* x, int64_t n) noexcept { Active().silu(x, n); }
void SigmoidMul(const float* gate, float* x, int64_t n) noexcept {
  Active().sigmoid_mul(gate, x, n);
}
void SwiGlu(const float* gate, const float* up, float* out, int64_t n) noexcept {
  Active().swiglu(gate, up, out, n);
}
void Axpy(float a, const float* x, float* y, int64_t n) noexcept { Active().axpy(a, x, y, n); }
void ScaleAdd(float a, const float* x, float b, const float* y, float* out, int64_t n) noexcept {
  Active().scale_add(a, x, b, y, out, n);
}
void Scale(float a, float* x, int64_t n) noexcept { Active().scale(a, x, n); }
float MaxValue(const float* x, int64_t n) noexcept { return Active().max_value(x, n); }
void ExpSumInPlace(float* x, float max, int64_t n, float* sum) noexcept {
  Active().exp_sum(x, max, n, sum);
}
void DecayOuterUpdate(float lambda, const float* k, const float* v, const float* q, float* state,
                      float* out, int64_t d) noexcept {
  Active().decay_outer_update(lambda, k, v, q, state, out, d);
}

}  // namespace stoker
