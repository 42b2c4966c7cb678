#include "runtime/matmul/fast_backend.h"

#include <algorithm>
#include <string>
#include <vector>

#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/node_buffer.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/vector_ops.h"

#if STOKER_WITH_ONEDNN
#include "runtime/matmul/onednn_f32.h"
#endif

namespace stoker {
namespace {

// From here on unpacking a panel once costs less than repeating the per-token part of the dot
// product; bench/kernel_bench.cc shows the crossing.
constexpr int64_t kGemmMinTokens = 8;

// Rows and tokens computed at a time where two products are added: 512 KiB of results.
constexpr int64_t kResidualRows = 128;
constexpr int64_t kResidualTokens = 512;

// With eight- and six-bit weights the rounding of eight-bit activations would be the larger error,
// so these types multiply the residual too, unless the caller leaves it out.
bool WantsResidual(DType type) { return type == DType::kQ8_0 || type == DType::kQ6_K; }

#if STOKER_WITH_ONEDNN
constexpr bool kWithOneDnn = true;
#else
constexpr bool kWithOneDnn = false;
#endif

class FastBackend final : public MatmulBackend {
 public:
  FastBackend(Precision precision, int n_workers, IsaLevel level)
      : precision_(precision),
        kernels_(KernelsFor(level)),
        name_("fast(" + std::string(IsaLevelName(level)) +
              (precision == Precision::kExact ? ", exact" : "") +
              (kWithOneDnn && level != IsaLevel::kScalar ? ", oneDNN)" : ")")) {
#if STOKER_WITH_ONEDNN
    if (level != IsaLevel::kScalar) onednn_ = std::make_unique<OneDnnF32>(n_workers, level);
#endif
    // Scratch of one worker per piece, so that first touch puts it beside its worker.
    for (int w = 0; w < n_workers && precision == Precision::kFast; ++w) {
      scratch_.push_back(
          NodeBuffer::Allocate(KernelScratchBytes() + kResidualBytes, "matmul scratch"));
    }
  }

  std::string_view name() const override { return name_; }

  uint32_t FormsFor(DType type, int64_t m) const override {
    switch (ChooseRoute(kernels_.level, precision_, type, m)) {
      case Route::kOneDnn:
      case Route::kDotF32:
        return kActF32;
      case Route::kDotQ8:
      case Route::kGemmQ8:
        return WantsResidual(type) ? kActQ8Residual : kActQ8;
    }
    return kActF32;
  }

  void Multiply(const Worker& worker, const TensorView& weight, const Activations& x, float* y,
                int64_t y_stride) override {
    STOKER_CHECK(weight.cols() == x.k());
    const TypeKernels& kernels = kernels_.For(weight.type);
    STOKER_CHECK(kernels.supported());
    const uint32_t forms = FormsFor(weight.type, x.m());
    STOKER_CHECK((WithoutResidual(forms) & ~x.forms()) == 0);
    STOKER_CHECK(x.level() == kernels_.level);
    const auto [begin, end] = RowShare(worker, weight.rows());
    if (begin == end || x.m() == 0) return;
    const WeightRows rows{weight.row(begin), static_cast<int64_t>(weight.row_bytes()), end - begin};
    const Route route = ChooseRoute(kernels_.level, precision_, weight.type, x.m());
    switch (route) {
      case Route::kOneDnn:
#if STOKER_WITH_ONEDNN
        onednn_->Multiply(worker.index, reinterpret_cast<const float*>(rows.data), rows.n_rows,
                          x.f32_rows(), y + begin, y_stride);
#endif
        break;
      case Route::kDotF32:
        kernels.dot_f32(rows, x.f32_rows(), y + begin, y_stride);
        break;
      case Route::kDotQ8:
      case Route::kGemmQ8:
        if (HasResidual(forms) && HasResidual(x.forms())) {
          MultiplyResidual(worker, route, kernels, rows, x, y + begin, y_stride);
        } else {
          MultiplyQ8(worker, route, kernels, rows, x.q8_rows(), y + begin, y_stride);
        }
        break;
    }
  }

 private:
  // Scratch of one worker: the kernel's own, then both results of a panel for a tile of tokens.
  static constexpr size_t kResidualBytes = 2 * kResidualTokens * kResidualRows * sizeof(float);

  size_t KernelScratchBytes() const {
    return AlignUp<size_t>(static_cast<size_t>(kernels_.gemm_scratch_bytes), 64);
  }

  void MultiplyQ8(const Worker& worker, Route route, const TypeKernels& kernels,
                  const WeightRows& rows, const Q8Rows& x, float* y, int64_t y_stride) {
    if (route == Route::kDotQ8) {
      kernels.dot_q8(rows, x, y, y_stride);
    } else {
      kernels.gemm_q8(rows, x, scratch_[static_cast<size_t>(worker.index)].data(), y, y_stride);
    }
  }

  // Both rows of every token go through the kernel in one call, so that a weight is unpacked once
  // for them; then their results are added.
  void MultiplyResidual(const Worker& worker, Route route, const TypeKernels& kernels,
                        const WeightRows& rows, const Activations& x, float* y, int64_t y_stride) {
    const Q8Rows pairs = x.q8_residual_rows();
    auto* const products = reinterpret_cast<float*>(
        scratch_[static_cast<size_t>(worker.index)].data() + KernelScratchBytes());
    for (int64_t row = 0; row < rows.n_rows; row += kResidualRows) {
      const WeightRows panel{rows.data + row * rows.row_bytes, rows.row_bytes,
                             std::min(kResidualRows, rows.n_rows - row)};
      for (int64_t t = 0; t < x.m(); t += kResidualTokens) {
        const int64_t n = std::min(kResidualTokens, x.m() - t);
        MultiplyQ8(worker, route, kernels, panel, SliceRows(pairs, 2 * t, 2 * n), products,
                   kResidualRows);
        for (int64_t i = 0; i < n; ++i) {
          const float* pair = products + 2 * i * kResidualRows;
          ScaleAdd(1.0f, pair, 1.0f, pair + kResidualRows, y + (t + i) * y_stride + row,
                   panel.n_rows);
        }
      }
    }
  }

  const Precision precision_;
  const KernelTable& kernels_;
  const std::string name_;
#if STOKER_WITH_ONEDNN
  std::unique_ptr<OneDnnF32> onednn_;  // null at the scalar level
#endif
  std::vector<NodeBuffer> scratch_;  // one per worker
};

}  // namespace

Route ChooseRoute(IsaLevel level, Precision precision, DType type, int64_t m) {
  if (kWithOneDnn && type == DType::kF32 && level != IsaLevel::kScalar) return Route::kOneDnn;
  const TypeKernels& kernels = KernelsFor(level).For(type);
  if (precision == Precision::kExact || kernels.dot_q8 == nullptr) return Route::kDotF32;
  if (m >= kGemmMinTokens && kernels.gemm_q8 != nullptr) return Route::kGemmQ8;
  return Route::kDotQ8;
}

std::unique_ptr<MatmulBackend> MakeFastBackend(Precision precision, int n_workers, IsaLevel level) {
  STOKER_CHECK(n_workers > 0);
  return std::make_unique<FastBackend>(precision, n_workers, level);
}

}  // namespace stoker
