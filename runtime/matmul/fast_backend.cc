#include "runtime/matmul/fast_backend.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/node_buffer.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/kernels/vector_ops.h"
#include "runtime/matmul/scaled_products.h"

#if STOKER_WITH_ONEDNN
#include "runtime/matmul/onednn.h"
#include "runtime/matmul/wide_products.h"
#endif

namespace stoker {
namespace {

// Rows and tokens computed at a time; where two products are added, 1 MiB of results.
constexpr int64_t kBlockRows = 256;
constexpr int64_t kResidualTokens = 512;

// Room for the panels of a block of rows that lies in the file's layout: one panel of the longest
// rows, 256 rows of common ones.
constexpr int64_t kPanelScratchBytes = kPanelRows * kMostPanelRowBytes;

// Both results of a block for a tile of tokens.
constexpr int64_t kResidualBytes = 2 * kResidualTokens * kBlockRows * sizeof(float);

int64_t KernelScratchBytes(const KernelTable& kernels) {
  return DivCeil<int64_t>(kernels.gemm_scratch_bytes, 64) * 64;
}
// Of one worker: the kernel's own, then results of residual products, then panels of rows that lie
// in the file's layout.
int64_t ScratchBytes(const KernelTable& kernels) {
  return KernelScratchBytes(kernels) + kResidualBytes + kPanelScratchBytes;
}

// Built in: tokens from which oneDNN multiplies panels of F32, F16 and BF16 (measured on Zen 4:
// with AVX-512 our own kernels make up to 94 % of the multiply-adds there can be, but read every
// token once per panel; with AVX2 half of them). Of BF16 in parts: where there is a matrix unit.
constexpr int64_t kAvx512WideTokens = 256;
constexpr int64_t kAvx2WideTokens = 16;
constexpr int64_t kSplitTokens = 16;

// A drive reads a few MB meanwhile, less than is in flight while somebody looks.
constexpr std::chrono::microseconds kPollInterval{500};

// Re-laid in place before they are multiplied: what stays in the second-level cache until then.
constexpr int64_t kRelayBytes = 256 << 10;

#if STOKER_WITH_ONEDNN
constexpr bool kWithOneDnn = true;
#else
constexpr bool kWithOneDnn = false;
#endif

bool Splits(DType type, const MatmulTuning& tuning) {
  return type == DType::kBF16 && tuning.splits_bf16();
}

class FastBackend final : public MatmulBackend {
 public:
  FastBackend(Precision precision, int n_workers, IsaLevel level, bool residual,
              const MatmulTuning& tuning)
      : precision_(precision),
        residual_(residual),
        tuning_(tuning),
        kernels_(KernelsFor(level)),
        name_("fast(" + std::string(IsaLevelName(level)) +
              (precision == Precision::kExact ? ", exact" : "") +
              (kWithOneDnn && level != IsaLevel::kScalar ? ", oneDNN)" : ")")) {
#if STOKER_WITH_ONEDNN
    if (level != IsaLevel::kScalar) {
      onednn_ = std::make_unique<OneDnn>(n_workers, level);
      tuning_.set_splits_bf16(tuning.splits_bf16() && onednn_->has_wide_bf16());
      wide_ = std::make_unique<WideProducts>(onednn_.get(), n_workers);
    }
#endif
    // Scratch of one worker per piece, so that first touch puts it beside its worker.
    for (int w = 0; w < n_workers; ++w) {
      scratch_.push_back(
          NodeBuffer::Allocate(static_cast<size_t>(ScratchBytes(kernels_)), "matmul scratch"));
    }
    if (precision == Precision::kFast && level == IsaLevel::kAvx512 && tuning.scales_any()) {
      scaled_ = ScaledProducts::Make(n_workers);
    }
  }

  std::string_view name() const override { return name_; }

  uint32_t FormsFor(DType type, int64_t m) const override {
    switch (ChooseRoute(kernels_.level, precision_, type, m, tuning_)) {
      case Route::kOneDnnBf16:
        return kActF32 | kActBf16Parts;
      case Route::kOneDnnF32:
      case Route::kOneDnnWidened:
      case Route::kDotPlain:
      case Route::kDotF32:
        return kActF32;
      case Route::kDotQ8:
      case Route::kGemmQ8:
      case Route::kScaledQ8:
        return residual_ && GainsFromResidual(type) ? kActQ8Residual : kActQ8;
    }
    return kActF32;
  }

  void Multiply(const Worker& worker, const TensorView& weight, const Activations& x, float* y,
                int64_t y_stride) override {
    STOKER_CHECK(weight.cols() == x.k());
    const TypeKernels& kernels = kernels_.For(weight.type);
    STOKER_CHECK(kernels.supported());
    STOKER_CHECK((weight.type == DType::kInt8Row) == (weight.row_scales != nullptr));
    const uint32_t forms = FormsFor(weight.type, x.m());
    STOKER_CHECK((WithoutResidual(forms) & ~x.forms()) == 0);
    STOKER_CHECK(x.level() == kernels_.level);
    const auto [begin, end] = RowShare(worker, weight);
    if (begin == end || x.m() == 0) return;
    const bool residual = HasResidual(forms) && HasResidual(x.forms());
    const Route route = RouteFor(weight, residual ? 2 * x.m() : x.m());
    STOKER_CHECK(weight.layout == WeightLayout::kRows || UsesPanels(weight));
    switch (route) {
#if STOKER_WITH_ONEDNN
      case Route::kOneDnnF32:
        Poll(worker);
        // In blocks whose size follows from the matrix alone: the library's order of sums depends
        // on the shape, and bits shall not depend on the number of workers or nodes.
        for (int64_t row = begin, n = 0; row < end; row += n) {
          n = std::min(weight.rows() < kSmallRows ? kSmallRowGrain : kRowGrain, end - row);
          if (n == 1) {  // see OneDnn::Multiply
            kernels.dot_f32({weight.row(row), static_cast<int64_t>(weight.row_bytes()), n},
                            x.f32_rows(), y + row, y_stride);
          } else {
            onednn_->Multiply(worker.index, reinterpret_cast<const float*>(weight.row(row)), n,
                              x.f32_rows(), y + row, y_stride);
          }
        }
        break;
      case Route::kOneDnnBf16:
        ForEachBlock(worker, weight, begin, end, [&](const Block& block) {
          wide_->MultiplyParts(worker.index, block.rows.data, block.rows.row_bytes,
                               block.rows.n_rows, x.bf16_parts(), y + block.first_row, y_stride);
        });
        break;
      case Route::kOneDnnWidened:
        ForEachBlock(worker, weight, begin, end, [&](const Block& block) {
          wide_->Multiply(worker.index, kernels, block.rows.data, block.rows.row_bytes,
                          block.rows.n_rows, x.f32_rows(), y + block.first_row, y_stride);
        });
        break;
#else
      case Route::kOneDnnF32:
      case Route::kOneDnnBf16:
      case Route::kOneDnnWidened:
        STOKER_CHECK(false);
        break;
#endif
      case Route::kDotPlain:
        ForEachBlock(worker, weight, begin, end, [&](const Block& block) {
          kernels.dot_plain(block.rows.data, block.rows.n_rows, x.f32_rows(),
                            y + block.first_row, y_stride);
        });
        break;
      case Route::kDotF32:
        ForEachBlock(worker, weight, begin, end, [&](const Block& block) {
          kernels.dot_f32(block.rows, x.f32_rows(), y + block.first_row, y_stride);
        });
        break;
      case Route::kDotQ8:
      case Route::kGemmQ8:
      case Route::kScaledQ8:
        ForEachBlock(worker, weight, begin, end, [&](const Block& block) {
          if (residual) {
            MultiplyResidual(worker, route, kernels, block, x, y + block.first_row, y_stride);
          } else {
            MultiplyQ8(worker, route, kernels, block, x.q8_rows(), y + block.first_row, y_stride);
          }
        });
        break;
    }
    if (weight.row_scales != nullptr) ScaleRows(weight.row_scales, begin, end, x.m(), y, y_stride);
  }

  WeightLayout LayoutAfter(const TensorView& weight) const override {
    return weight.may_relay && UsesPanels(weight) ? WeightLayout::kPanels : weight.layout;
  }

  void SetPoll(std::function<void()> poll) override { poll_ = std::move(poll); }

  void Relay(const Worker& worker, const TensorView& weight) override {
    if (!weight.may_relay || !UsesPanels(weight)) return;
    const auto [begin, end] = RowShare(worker, weight);
    if (begin == end) return;  // of a matrix of few panels some workers have none
    ForEachBlock(worker, weight, begin, end, [](const Block&) {});
  }

 private:
  using Clock = std::chrono::steady_clock;

  // ChooseRoute, without what oneDNN cannot do on this machine or not well on this matrix.
  Route RouteFor(const TensorView& weight, int64_t m) const {
    const Route route = ChooseRoute(kernels_.level, precision_, weight.type, m, tuning_);
#if STOKER_WITH_ONEDNN
    const bool rows = weight.type == DType::kF32 && onednn_ != nullptr && onednn_->has_rows();
    const bool wide = weight.cols() >= kOneDnnColumns && onednn_ != nullptr &&
                      onednn_->has_wide_f32();
#else
    constexpr bool rows = false;
    constexpr bool wide = false;
#endif
    switch (route) {
      case Route::kDotPlain:
      case Route::kOneDnnBf16:
      case Route::kOneDnnWidened:
        if (!UsesPanels(weight)) return rows ? Route::kOneDnnF32 : Route::kDotF32;
        return wide ? route : Route::kDotPlain;
      case Route::kScaledQ8:
        return scaled_ != nullptr && weight.cols() % kGroup == 0 ? route : Route::kGemmQ8;
      default:
        return route;
    }
  }

  // Rows [begin, end) of the results of m tokens times their scales.
  static void ScaleRows(const float* scales, int64_t begin, int64_t end, int64_t m, float* y,
                        int64_t y_stride) {
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t row = begin; row < end; ++row) y[t * y_stride + row] *= scales[row];
    }
  }

  void Poll(const Worker& worker) {
    if (worker.index != 0 || !poll_) return;
    const Clock::time_point now = Clock::now();
    if (now - last_poll_ < kPollInterval) return;
    poll_();
    last_poll_ = now;
  }

  // See ScratchBytes.
  std::byte* Scratch(const Worker& worker) {
    return scratch_[static_cast<size_t>(worker.index)].data();
  }

  bool UsesPanels(const TensorView& weight) const {
    const TypeKernels& kernels = kernels_.For(weight.type);
    if (kernels.dot_plain != nullptr) {
      // A small matrix is cut finer, so that every worker gets some of it.
      return weight.rows() >= kSmallRows &&
             kPanelRows * static_cast<int64_t>(weight.row_bytes()) <= kPanelScratchBytes;
    }
    return precision_ == Precision::kFast && kernels.dot_panels != nullptr;
  }

  // Consecutive rows ready for the integer kernels: as panels where the level has panel kernels, as
  // rows of the file elsewhere.
  struct Block {
    WeightRows rows;
    int64_t first_row = 0;
  };

  // Calls multiply(block) for rows [begin, end) of the matrix, at most kBlockRows at a time, and
  // polls in between.
  template <typename F>
  void ForEachBlock(const Worker& worker, const TensorView& weight, int64_t begin, int64_t end,
                    F&& multiply) {
    const auto row_bytes = static_cast<int64_t>(weight.row_bytes());
    const auto block = [&](int64_t first, int64_t n, const std::byte* data) {
      Poll(worker);
      multiply(Block{{data, row_bytes, n}, first});
    };
    if (!UsesPanels(weight)) {
      for (int64_t row = begin; row < end; row += kBlockRows) {
        block(row, std::min(kBlockRows, end - row), weight.row(row));
      }
      return;
    }
    static_assert(kRowGrain % kPanelRows == 0);
    STOKER_CHECK(begin % kPanelRows == 0);
    const int64_t whole = weight.rows() / kPanelRows * kPanelRows;  // the rest is never re-laid
    const int64_t panel_bytes = kPanelRows * row_bytes;
    STOKER_CHECK(panel_bytes <= kPanelScratchBytes);
    const int64_t scratch_rows =
        std::min(kBlockRows, kPanelScratchBytes / panel_bytes * kPanelRows);
    const int64_t relay_rows =
        std::clamp(kRelayBytes / panel_bytes * kPanelRows, kPanelRows, kBlockRows);
    std::byte* const scratch = Scratch(worker) + KernelScratchBytes(kernels_) + kResidualBytes;
    for (int64_t row = begin; row < end;) {
      const int64_t limit = row < whole ? std::min(end, whole) : end;
      if (weight.layout == WeightLayout::kPanels && row < whole) {
        const int64_t n = std::min(kBlockRows, limit - row);
        block(row, n, weight.row(row));
        row += n;
        continue;
      }
      // In place a panel at a time, else the whole block to scratch.
      const bool relay = weight.may_relay && row < whole;
      const int64_t n = std::min(relay ? relay_rows : scratch_rows, limit - row);
      for (int64_t r = 0; r < n; r += kPanelRows) {
        std::byte* const panel = scratch + (relay ? 0 : r * row_bytes);
        kernels_.For(weight.type)
            .repack({weight.row(row + r), row_bytes, std::min(kPanelRows, n - r)}, weight.cols(),
                    panel);
        if (relay) {
          std::memcpy(const_cast<std::byte*>(weight.row(row + r)), panel,
                      static_cast<size_t>(panel_bytes));
        }
      }
      block(row, n, relay ? weight.row(row) : scratch);
      row += n;
    }
  }

  void MultiplyQ8(const Worker& worker, Route route, const TypeKernels& kernels, const Block& block,
                  const Q8Rows& x, float* y, int64_t y_stride) {
    const WeightRows& rows = block.rows;
    if (kernels.dot_panels == nullptr) {
      kernels.dot_q8(rows, x, y, y_stride);
    } else if (route == Route::kDotQ8) {
      kernels.dot_panels(rows.data, rows.n_rows, x, y, y_stride);
    } else if (route == Route::kScaledQ8) {
      scaled_->Multiply(worker.index, kernels, rows.data, rows.row_bytes, rows.n_rows, x, y,
                        y_stride);
    } else {
      kernels.gemm_panels(rows.data, rows.n_rows, x, Scratch(worker), y, y_stride);
    }
  }

  // Both rows of every token go through the kernel in one call, so that a weight is unpacked once
  // for them; then their results are added.
  void MultiplyResidual(const Worker& worker, Route route, const TypeKernels& kernels,
                        const Block& block, const Activations& x, float* y, int64_t y_stride) {
    const Q8Rows pairs = x.q8_residual_rows();
    auto* const products =
        reinterpret_cast<float*>(Scratch(worker) + KernelScratchBytes(kernels_));
    for (int64_t t = 0; t < x.m(); t += kResidualTokens) {
      const int64_t n = std::min(kResidualTokens, x.m() - t);
      MultiplyQ8(worker, route, kernels, block, SliceRows(pairs, 2 * t, 2 * n), products,
                 kBlockRows);
      for (int64_t i = 0; i < n; ++i) {
        const float* pair = products + 2 * i * kBlockRows;
        ScaleAdd(1.0f, pair, 1.0f, pair + kBlockRows, y + (t + i) * y_stride, block.rows.n_rows);
      }
    }
  }

  const Precision precision_;
  const bool residual_;
  MatmulTuning tuning_;
  const KernelTable& kernels_;
  const std::string name_;
#if STOKER_WITH_ONEDNN
  std::unique_ptr<OneDnn> onednn_;      // null at the scalar level
  std::unique_ptr<WideProducts> wide_;  // null without onednn_
#endif
  std::unique_ptr<ScaledProducts> scaled_;  // null where there is none or it is not wanted
  std::vector<NodeBuffer> scratch_;         // one per worker
  std::function<void()> poll_;
  Clock::time_point last_poll_;
};

}  // namespace

int64_t OneDnnTokens(IsaLevel level, DType type, const MatmulTuning& tuning) {
  if (!kWithOneDnn) return MatmulTuning::kNever;
  if (tuning.wide_tokens(type) > 0) return tuning.wide_tokens(type);
  if (Splits(type, tuning)) return kSplitTokens;
  return level == IsaLevel::kAvx512 ? kAvx512WideTokens : kAvx2WideTokens;
}

bool MaySplitBf16([[maybe_unused]] IsaLevel level) {
#if STOKER_WITH_ONEDNN
  return OneDnn::MayHaveWideBf16(level);
#else
  return false;
#endif
}

uint64_t FastBackendBytes(IsaLevel level, int n_workers) {
  int64_t bytes = ScratchBytes(KernelsFor(level));
  if (level == IsaLevel::kAvx512) bytes += ScaledProducts::ScratchBytes();
#if STOKER_WITH_ONEDNN
  bytes += WideProducts::ScratchBytes();
#endif
  return static_cast<uint64_t>(bytes * n_workers);
}

bool GainsFromResidual(DType type) {
  return type == DType::kQ8_0 || type == DType::kInt8Row || type == DType::kQ6_K;
}

Route ChooseRoute(IsaLevel level, Precision precision, DType type, int64_t m,
                  const MatmulTuning& tuning) {
  const TypeKernels& kernels = KernelsFor(level).For(type);
  if (kernels.dot_plain != nullptr) {
    if (m < OneDnnTokens(level, type, tuning)) return Route::kDotPlain;
    return Splits(type, tuning) ? Route::kOneDnnBf16 : Route::kOneDnnWidened;
  }
  const bool quantised = kernels.dot_panels != nullptr || kernels.dot_q8 != nullptr;
  if (precision == Precision::kExact || !quantised) return Route::kDotF32;
  if (kernels.planes > 0 && m >= tuning.scaled_tokens(type)) return Route::kScaledQ8;
  if (m >= tuning.gemm_tokens(type) && kernels.gemm_panels != nullptr) return Route::kGemmQ8;
  return Route::kDotQ8;
}

std::unique_ptr<MatmulBackend> MakeFastBackend(Precision precision, int n_workers, IsaLevel level,
                                               bool residual, const MatmulTuning& tuning) {
  STOKER_CHECK(n_workers > 0);
  return std::make_unique<FastBackend>(precision, n_workers, level, residual, tuning);
}

}  // namespace stoker
