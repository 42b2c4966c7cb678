#include "runtime/matmul/reference_backend.h"

#include <vector>

#include "numa/check.h"
#include "runtime/kernels/dequantize.h"

namespace stoker {
namespace {

// Sixteen f64 lanes: an error far below that of any f32 kernel, in a form the compiler vectorises.
float DotF64(const float* w, const float* x, int64_t n) {
  constexpr int kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += static_cast<double>(w[i + l]) * x[i + l];
  }
  for (int l = 0; i < n; ++i, ++l) lanes[l] += static_cast<double>(w[i]) * x[i];
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return static_cast<float>(sum);
}

class ReferenceBackend final : public MatmulBackend {
 public:
  ReferenceBackend(int n_workers, int64_t max_cols)
      : scratch_(static_cast<size_t>(n_workers),
                 std::vector<float>(static_cast<size_t>(max_cols))) {}

  std::string_view name() const override { return "reference"; }

  uint32_t FormsFor(DType, int64_t) const override { return kActF32; }

  void Multiply(const Worker& worker, const TensorView& weight, const Activations& x, float* y,
                int64_t y_stride) override {
    STOKER_CHECK(weight.cols() == x.k());
    STOKER_CHECK(Info(weight.type).computable);
    std::vector<float>& row = scratch_[static_cast<size_t>(worker.index)];
    STOKER_CHECK(static_cast<int64_t>(row.size()) >= weight.cols());
    const auto [begin, end] = RowShare(worker, weight);
    for (int64_t r = begin; r < end; ++r) {
      DequantizeRow(weight.type, weight.row(r), row.data(), weight.cols());
      for (int64_t t = 0; t < x.m(); ++t) {
        const float product = DotF64(row.data(), x.f32(t), weight.cols());
        y[t * y_stride + r] =
            weight.row_scales != nullptr ? product * weight.row_scales[r] : product;
      }
    }
  }

 private:
  std::vector<std::vector<float>> scratch_;  // one row per worker
};

}  // namespace

std::unique_ptr<MatmulBackend> MakeReferenceBackend(int n_workers, int64_t max_cols) {
  STOKER_CHECK(n_workers > 0 && max_cols > 0);
  return std::make_unique<ReferenceBackend>(n_workers, max_cols);
}

}  // namespace stoker
