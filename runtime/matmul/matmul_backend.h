#pragma once

// The one seam through which every weight product goes: y = W x for m rows of x. Two
// implementations: the fast one (own GEMV kernels and oneDNN, chosen per type and m) and the plain
// reference one, which is oracle and fallback. Calls are collective inside ThreadTeam::Run: every
// worker calls with the same arguments and computes its own share of W's rows; the caller puts the
// barriers.
// Engine-thread only (through its team). It owns no weights.

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "mmap/tensor_view.h"
#include "numa/thread_team.h"
#include "runtime/matmul/activations.h"

namespace stoker {

// kExact: full-precision activations for every type (--exact). kFast: integer activations for
// quantised types where a kernel has them; F32/F16/BF16 weights are always
// multiplied with f32 activations.
enum class Precision { kFast, kExact };

// The rows of a matrix that a worker computes, and should be the first to touch: the team's
// partition of rows. Contiguous, and whole panels of sixteen rows (see WeightLayout).
inline std::pair<int64_t, int64_t> RowShare(const Worker& worker, const TensorView& weight) {
  return worker.Rows(weight.rows(), Info(weight.type).block_elements > 1, weight.row_unit);
}

class MatmulBackend {
 public:
  virtual ~MatmulBackend() = default;
  virtual std::string_view name() const = 0;  // for --verbose and bench rows

  // The forms that Multiply with weights of this type and m rows wants (mask of ActivationForm).
  // WithoutResidual of it is enough: the product is then faster and less accurate.
  virtual uint32_t FormsFor(DType type, int64_t m) const = 0;

  // y[i * y_stride + r] = sum_c W[r, c] * x[i, c] for i in [0, x.m()), r in [0, W.rows()).
  // x must hold the forms that FormsFor(W.type, x.m()) names, residual rows excepted. noexcept in
  // effect: shapes are checked with STOKER_CHECK.
  // A matrix that may be re-laid is, if LayoutAfter says so: the same call must not see its old
  // view again.
  virtual void Multiply(const Worker& worker, const TensorView& weight, const Activations& x,
                        float* y, int64_t y_stride) = 0;

  // How a matrix lies after Relay, or after a Multiply when it may be re-laid.
  virtual WeightLayout LayoutAfter(const TensorView& weight) const { return weight.layout; }
  // Called by the first worker every half millisecond or so while it multiplies, so that reads
  // under way for later products go on. Must not throw.
  virtual void SetPoll(std::function<void()> /*poll*/) {}
  // Re-lays this worker's rows of a matrix that may be, ahead of any product.
  virtual void Relay(const Worker& /*worker*/, const TensorView& /*weight*/) {}
};

}  // namespace stoker
