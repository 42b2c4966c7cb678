#include "runtime/matmul/wide_products.h"

#include <algorithm>
#include <cstring>

#include "numa/bytes.h"
#include "numa/check.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker {
namespace {

// Columns of a block of weights, which stays in the second-level cache while the tokens pass.
constexpr int64_t kBlockBytes = 256 << 10;
constexpr int64_t kF32Columns = kBlockBytes / (kWideRows * static_cast<int64_t>(sizeof(float)));
constexpr int64_t kBf16Columns = 2 * kF32Columns;

// Rows of activations that pass over the weights at a time, whose results are collected before
// they go to y: its rows are mostly a multiple of 4 KiB apart, so that a column of it falls on one
// set of the first-level cache.
constexpr int64_t kPassRows = 768;
static_assert(kPassRows % kBf16Parts == 0);

// Columns [first, first + n) of n_panels panels of pairs side by side, to [whole pairs, kWideRows,
// 2], zeros for missing rows and columns up to the next kWideStep.
void PutPairs(const std::byte* panels, int64_t panel_bytes, int64_t n_panels, int64_t first,
              int64_t n, uint16_t* to) {
  constexpr int64_t kPairsBytes = 4 * kPanelRows;  // of a panel's two columns
  const int64_t n_pairs = n / 2;
  for (int64_t i = 0; i < n_pairs; ++i) {
    auto* const out = reinterpret_cast<std::byte*>(to + i * 2 * kWideRows);
    for (int64_t p = 0; p < n_panels; ++p) {
      std::memcpy(out + p * kPairsBytes,
                  panels + p * panel_bytes + (first / 2 + i) * kPairsBytes, kPairsBytes);
    }
    std::memset(out + n_panels * kPairsBytes, 0,
                static_cast<size_t>((kWideRows / kPanelRows - n_panels) * kPairsBytes));
  }
  uint16_t* const rest = to + n_pairs * 2 * kWideRows;
  std::fill(rest, to + DivCeil(n, kWideStep) * kWideStep * kWideRows, uint16_t{0});
  if (n % 2 == 0) return;
  for (int64_t row = 0; row < n_panels * kPanelRows; ++row) {  // the last column of the panels
    std::memcpy(rest + 2 * row,
                panels + row / kPanelRows * panel_bytes +
                    2 * ((first + n - 1) * kPanelRows + row % kPanelRows),
                sizeof(uint16_t));
  }
}

int64_t Panels(int64_t n_rows) { return DivCeil(std::min(n_rows, kWideRows), kPanelRows); }

}  // namespace

struct WideProducts::Scratch {
  alignas(64) std::byte block[kBlockBytes];
  alignas(64) float products[kPassRows][kWideRows];
};

WideProducts::WideProducts(OneDnn* onednn, int n_workers) : onednn_(onednn) {
  for (int w = 0; w < n_workers; ++w) {
    scratch_.push_back(
        NodeBuffer::Allocate(static_cast<size_t>(ScratchBytes()), "scratch of f32 products"));
  }
}

int64_t WideProducts::ScratchBytes() { return sizeof(Scratch); }

void WideProducts::Multiply(int worker, const TypeKernels& kernels, const std::byte* panels,
                            int64_t row_bytes, int64_t n_rows, const F32Rows& x, float* y,
                            int64_t y_stride) noexcept {
  Scratch& scratch = *ScratchOf(worker);
  auto* const block = reinterpret_cast<float*>(scratch.block);
  for (int64_t t = 0; t < x.m; t += kPassRows) {
    const F32Rows tokens = SliceRows(x, t, std::min(kPassRows, x.m - t));
    for (int64_t row = 0; row < n_rows; row += kWideRows) {
      for (int64_t first = 0; first < x.k; first += kF32Columns) {
        F32Rows columns = tokens;
        columns.x += first;
        columns.k = std::min(kF32Columns, x.k - first);
        kernels.widen_panels(panels + row * row_bytes, kPanelRows * row_bytes,
                             Panels(n_rows - row), x.k, first, columns.k, block);
        std::fill(block + columns.k * kWideRows,
                  block + DivCeil(columns.k, kWideStep) * kWideStep * kWideRows, 0.0f);
        onednn_->MultiplyWide(worker, block, columns, first > 0, scratch.products[0]);
      }
      const int64_t rows = std::min(kWideRows, n_rows - row);
      for (int64_t i = 0; i < tokens.m; ++i) {
        std::memcpy(y + (t + i) * y_stride + row, scratch.products[i],
                    static_cast<size_t>(rows) * sizeof(float));
      }
    }
  }
}

void WideProducts::MultiplyParts(int worker, const std::byte* panels, int64_t row_bytes,
                                 int64_t n_rows, const Bf16Rows& x, float* y,
                                 int64_t y_stride) noexcept {
  Scratch& scratch = *ScratchOf(worker);
  auto* const block = reinterpret_cast<uint16_t*>(scratch.block);
  for (int64_t part = 0; part < x.m; part += kPassRows) {
    const Bf16Rows parts = SliceRows(x, part, std::min(kPassRows, x.m - part));
    for (int64_t row = 0; row < n_rows; row += kWideRows) {
      for (int64_t first = 0; first < x.k; first += kBf16Columns) {
        Bf16Rows columns = parts;
        columns.x += first;
        columns.k = std::min(kBf16Columns, x.k - first);
        PutPairs(panels + row * row_bytes, kPanelRows * row_bytes, Panels(n_rows - row), first,
                 columns.k, block);
        onednn_->MultiplyWide(worker, block, columns, first > 0, scratch.products[0]);
      }
      const int64_t rows = std::min(kWideRows, n_rows - row);
      for (int64_t i = 0; i < parts.m / kBf16Parts; ++i) {
        float* const three = scratch.products[kBf16Parts * i];
        ScaleAdd(1.0f, three + kWideRows, 1.0f, three + 2 * kWideRows, three + kWideRows, rows);
        ScaleAdd(1.0f, three, 1.0f, three + kWideRows,
                 y + (part / kBf16Parts + i) * y_stride + row, rows);
      }
    }
  }
}

}  // namespace stoker
