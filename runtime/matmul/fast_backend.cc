#include "runtime/matmul/fast_backend.h"

#include <string>
#include <vector>

#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/node_buffer.h"
#include "runtime/kernels/kernel_table.h"

#if STOKER_WITH_ONEDNN
#include "runtime/matmul/onednn_f32.h"
#endif

namespace stoker {
namespace {

// From here on unpacking a panel once costs less than repeating the per-token part of the dot
// product; bench/kernel_bench.cc shows the crossing.
constexpr int64_t kGemmMinTokens = 8;

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
    for (int w = 0; w < n_workers && kernels_.gemm_scratch_bytes > 0; ++w) {
      scratch_.push_back(
          NodeBuffer::Allocate(static_cast<size_t>(kernels_.gemm_scratch_bytes), "matmul scratch"));
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
        return kActQ8;
    }
    return kActF32;
  }

  void Multiply(const Worker& worker, const TensorView& weight, const Activations& x, float* y,
                int64_t y_stride) override {
    STOKER_CHECK(weight.cols() == x.k());
    const TypeKernels& kernels = kernels_.For(weight.type);
    STOKER_CHECK(kernels.supported());
    STOKER_CHECK((FormsFor(weight.type, x.m()) & ~x.forms()) == 0);
    STOKER_CHECK(x.level() == kernels_.level);
    const auto [begin, end] = RowShare(worker, weight.rows());
    if (begin == end || x.m() == 0) return;
    const WeightRows rows{weight.row(begin), static_cast<int64_t>(weight.row_bytes()), end - begin};
    switch (ChooseRoute(kernels_.level, precision_, weight.type, x.m())) {
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
        kernels.dot_q8(rows, x.q8_rows(), y + begin, y_stride);
        break;
      case Route::kGemmQ8:
        kernels.gemm_q8(rows, x.q8_rows(), scratch_[static_cast<size_t>(worker.index)].data(),
                        y + begin, y_stride);
        break;
    }
  }

 private:
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
