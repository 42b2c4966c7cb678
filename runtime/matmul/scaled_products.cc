#include "runtime/matmul/scaled_products.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#if STOKER_WITH_ONEDNN
#include <dnnl.hpp>
#include <oneapi/dnnl/dnnl_ukernel.hpp>
#endif

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

// Rows unpacked at a time: their planes (256 KiB) stay in the second-level cache while all tokens
// pass.
constexpr int64_t kBlockGroups = 4;

// Rows whose results are collected before they go to y, and tokens of one pass over the weights. y
// itself would not do: its rows are mostly a multiple of 4 KiB apart, so that a column of it falls
// on one set of the first-level cache (measured: four times slower).
constexpr int64_t kBlockRows = kBlockGroups * kScaledRows;
constexpr int64_t kTotalsStride = kBlockRows + 16;
constexpr int64_t kPassTokens = 512;

// Tokens at a time, and the step in which micro-kernels are made: spare tokens of the last step are
// multiplied for nothing.
constexpr int64_t kTokens = 64;
constexpr int64_t kTokenStep = 16;

}  // namespace

#if STOKER_WITH_ONEDNN && defined(DNNL_EXPERIMENTAL_UKERNEL)

// One for every number of tokens in steps. Shared by all workers, whose tiles are their own.
class ScaledProducts::MicroKernels {
 public:
  // Throws dnnl::error.
  MicroKernels() {
    using Type = dnnl::memory::data_type;
    for (size_t i = 0; i < kernels_.size(); ++i) {
      const int64_t tokens = (static_cast<int64_t>(i) + 1) * kTokenStep;
      dnnl::ukernel::brgemm kernel(tokens, kScaledRows, kGroup, 1, kGroup, kScaledRows, kScaledRows,
                                   Type::u8, Type::s8, Type::s32);
      kernel.set_add_C(false);
      kernel.finalize();
      kernel.generate();
      scratch_bytes_ = std::max(scratch_bytes_, kernel.get_scratchpad_size());
      kernels_[i] = std::move(kernel);
    }
  }

  // The calling thread's tiles, for n_tokens rounded up to a step.
  void Configure(int64_t n_tokens) const { For(n_tokens).set_hw_context(); }
  static void Release() { dnnl::ukernel::brgemm::release_hw_context(); }
  size_t scratch_bytes() const { return scratch_bytes_; }

  // products[t][r] = sum_c plane[r, c] codes[t][c].
  void Multiply(const void* plane, const void* codes, int64_t n_tokens, void* products,
                std::byte* scratch) const {
    For(n_tokens).execute(codes, plane, kNoOffsets, products, scratch);
  }

 private:
  const dnnl::ukernel::brgemm& For(int64_t n_tokens) const {
    return kernels_[static_cast<size_t>(DivCeil(n_tokens, kTokenStep) - 1)];
  }

  static inline const std::vector<std::pair<dnnl::memory::dim, dnnl::memory::dim>> kNoOffsets = {
      {0, 0}};
  std::array<dnnl::ukernel::brgemm, kTokens / kTokenStep> kernels_;
  size_t scratch_bytes_ = 0;
};

#else

class ScaledProducts::MicroKernels {
 public:
  MicroKernels() { throw std::runtime_error("built without oneDNN's micro-kernels"); }
  void Configure(int64_t) const {}
  static void Release() {}
  size_t scratch_bytes() const { return 0; }
  void Multiply(const void*, const void*, int64_t, void*, std::byte*) const {}
};

#endif

struct ScaledProducts::Scratch {
  ScaledGroup groups[kBlockGroups];
  alignas(64) uint8_t codes[kTokens][kGroup];  // with kCodeOffset added
  alignas(64) int32_t products[2][kTokens][kScaledRows];
  alignas(64) float totals[kPassTokens][kTotalsStride];

  // What a micro-kernel puts down, behind this.
  std::byte* micro_kernel() { return reinterpret_cast<std::byte*>(this + 1); }
};

int64_t ScaledProducts::ScratchBytes() { return sizeof(Scratch); }

NodeBuffer ScaledProducts::AllocateScratch() const {
  return NodeBuffer::Allocate(
      static_cast<size_t>(ScratchBytes()) + micro_kernels_->scratch_bytes(),
      "matrix unit scratch");
}

ScaledProducts::ScaledProducts(int n_workers) : micro_kernels_(std::make_unique<MicroKernels>()) {
  for (int w = 0; w < n_workers; ++w) scratch_.push_back(AllocateScratch());
}

ScaledProducts::~ScaledProducts() = default;

std::unique_ptr<ScaledProducts> ScaledProducts::Make(int n_workers) {
  try {
    std::unique_ptr<ScaledProducts> made(new ScaledProducts(n_workers));
    if (made->Test()) return made;
    spdlog::warn("oneDNN's micro-kernel multiplies bytes wrongly here; own kernels do it");
    return nullptr;
  } catch (const std::system_error&) {
    throw;  // short of memory
  } catch (const std::exception& error) {
    spdlog::debug("no micro-kernel for bytes: {}", error.what());
    return nullptr;
  }
}

// Both ends of the types' ranges, every number of tokens.
bool ScaledProducts::Test() {
  const NodeBuffer buffer = AllocateScratch();
  auto* const scratch = buffer.as<Scratch>();
  auto& plane = scratch->groups[0].planes[0];
  const auto weight = [](int64_t r, int64_t c) {
    return static_cast<int8_t>((37 * r + 11 * c) % 256 - 128);
  };
  for (int64_t c = 0; c < kGroup; ++c) {
    for (int64_t r = 0; r < kScaledRows; ++r) plane[c / 4][r][c % 4] = weight(r, c);
    for (int64_t t = 0; t < kTokens; ++t) {
      scratch->codes[t][c] = static_cast<uint8_t>((53 * t + 29 * c) % 256);
    }
  }
  bool right = true;
  for (int64_t n = kTokenStep; n <= kTokens; n += kTokenStep) {
    micro_kernels_->Configure(n);
    micro_kernels_->Multiply(plane, scratch->codes, n, scratch->products[0],
                             scratch->micro_kernel());
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t r = 0; r < kScaledRows; ++r) {
        int32_t expected = 0;
        for (int64_t c = 0; c < kGroup; ++c) expected += weight(r, c) * scratch->codes[t][c];
        right = right && scratch->products[0][t][r] == expected;
      }
    }
  }
  MicroKernels::Release();
  return right;
}

void ScaledProducts::Multiply(int worker, const TypeKernels& kernels, const std::byte* panels,
                              int64_t row_bytes, int64_t n_rows, const Q8Rows& x, float* y,
                              int64_t y_stride) noexcept {
  STOKER_CHECK(kernels.planes > 0 && x.k % kGroup == 0);
  for (int64_t first = 0; first < x.m; first += kPassTokens) {
    const Q8Rows tokens = SliceRows(x, first, std::min(kPassTokens, x.m - first));
    for (int64_t row = 0; row < n_rows; row += kBlockRows) {
      MultiplyBlock(ScratchOf(worker), kernels, panels + row * row_bytes, row_bytes,
                    std::min(kBlockRows, n_rows - row), tokens, y + first * y_stride + row,
                    y_stride);
    }
  }
  MicroKernels::Release();
}

void ScaledProducts::MultiplyBlock(Scratch* scratch, const TypeKernels& kernels,
                                   const std::byte* panels, int64_t row_bytes, int64_t n_rows,
                                   const Q8Rows& x, float* y, int64_t y_stride) {
  const int64_t panel_bytes = kPanelRows * row_bytes;
  const int64_t tile_bytes = panel_bytes / x.n_groups;
  int64_t configured = 0;
  for (int64_t group = 0; group < x.n_groups; ++group) {
    for (int64_t row = 0; row < n_rows; row += kScaledRows) {
      kernels.scale_panels(panels + row * row_bytes + group * tile_bytes, panel_bytes,
                           DivCeil(std::min(kScaledRows, n_rows - row), kPanelRows),
                           &scratch->groups[row / kScaledRows]);
    }
    for (int64_t first = 0; first < x.m; first += kTokens) {
      const Q8Rows tokens = SliceRows(x, first, std::min(kTokens, x.m - first));
      if (tokens.m != configured) micro_kernels_->Configure(tokens.m);
      configured = tokens.m;
      for (int64_t t = 0; t < tokens.m; ++t) {
        const int8_t* const codes = tokens.codes + t * x.code_stride + group * kGroup;
        for (int64_t c = 0; c < kGroup; ++c) {
          scratch->codes[t][c] = static_cast<uint8_t>(codes[c] ^ -kCodeOffset);
        }
      }
      for (int64_t row = 0; row < n_rows; row += kScaledRows) {
        const ScaledGroup& w = scratch->groups[row / kScaledRows];
        for (int plane = 0; plane < kernels.planes; ++plane) {
          micro_kernels_->Multiply(w.planes[plane], scratch->codes, tokens.m,
                                   scratch->products[plane], scratch->micro_kernel());
        }
        kernels.add_scaled(w, scratch->products[0][0], kTokens * kScaledRows, tokens, group,
                           scratch->totals[first] + row, kTotalsStride);
      }
    }
  }
  for (int64_t t = 0; t < x.m; ++t) {
    std::memcpy(y + t * y_stride, scratch->totals[t], static_cast<size_t>(n_rows) * sizeof(float));
  }
}

}  // namespace stoker
