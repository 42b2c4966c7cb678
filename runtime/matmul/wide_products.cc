#include "runtime/matmul/wide_products.h"

#include <algorithm>
#include <cstring>

#include "numa/bytes.h"
#include "numa/check.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker {
namespace {

// Of a block of weights, which stays in the second-level cache while the tokens pass.
constexpr int64_t kBlockBytes = 256 << 10;

// Rows of activations that pass over the weights at a time, whose results are collected before
// they go to y: its rows are mostly a multiple of 4 KiB apart, so that a column of it falls on one
// set of the first-level cache.
constexpr int64_t kPassRows = 768;
static_assert(kPassRows % kBf16Parts == 0);
using Products = float[kPassRows][kWideRows];

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
  alignas(64) Products products;
};

WideProducts::WideProducts(OneDnn* onednn, int n_workers) : onednn_(onednn) {
  for (int w = 0; w < n_workers; ++w) {
    scratch_.push_back(
        NodeBuffer::Allocate(static_cast<size_t>(ScratchBytes()), "scratch of f32 products"));
  }
}

int64_t WideProducts::ScratchBytes() { return sizeof(Scratch); }

template <typename Element, typename Rows, typename Unpack, typename Store>
void WideProducts::MultiplyBlocks(int worker, int64_t n_rows, const Rows& x, Unpack&& unpack,
                                  Store&& store) {
  constexpr int64_t kColumns = kBlockBytes / (kWideRows * static_cast<int64_t>(sizeof(Element)));
  Scratch& scratch = *ScratchOf(worker);
  auto* const block = reinterpret_cast<Element*>(scratch.block);
  for (int64_t pass = 0; pass < x.m; pass += kPassRows) {
    const Rows rows = SliceRows(x, pass, std::min(kPassRows, x.m - pass));
    for (int64_t row = 0; row < n_rows; row += kWideRows) {
      for (int64_t first = 0; first < x.k; first += kColumns) {
        Rows columns = rows;
        columns.x += first;
        columns.k = std::min(kColumns, x.k - first);
        unpack(row, first, columns.k, block);
        onednn_->MultiplyWide(worker, block, columns, first > 0, scratch.products[0]);
      }
      store(pass, rows.m, row, std::min(kWideRows, n_rows - row), scratch.products);
    }
  }
}

void WideProducts::Multiply(int worker, const TypeKernels& kernels, const std::byte* panels,
                            int64_t row_bytes, int64_t n_rows, const F32Rows& x, float* y,
                            int64_t y_stride) noexcept {
  const auto widen = [&](int64_t row, int64_t first, int64_t n, float* block) {
    kernels.widen_panels(panels + row * row_bytes, kPanelRows * row_bytes, Panels(n_rows - row),
                         x.k, first, n, block);
    std::fill(block + n * kWideRows, block + DivCeil(n, kWideStep) * kWideStep * kWideRows, 0.0f);
  };
  const auto copy = [&](int64_t token, int64_t m, int64_t row, int64_t n, Products& products) {
    for (int64_t i = 0; i < m; ++i) {
      std::memcpy(y + (token + i) * y_stride + row, products[i],
                  static_cast<size_t>(n) * sizeof(float));
    }
  };
  MultiplyBlocks<float>(worker, n_rows, x, widen, copy);
}

void WideProducts::MultiplyParts(int worker, const std::byte* panels, int64_t row_bytes,
                                 int64_t n_rows, const Bf16Rows& x, float* y,
                                 int64_t y_stride) noexcept {
  const auto take = [&](int64_t row, int64_t first, int64_t n, uint16_t* block) {
    PutPairs(panels + row * row_bytes, kPanelRows * row_bytes, Panels(n_rows - row), first, n,
             block);
  };
  const auto add = [&](int64_t part, int64_t m, int64_t row, int64_t n, Products& products) {
    float* to = y + part / kBf16Parts * y_stride + row;
    for (int64_t i = 0; i < m; i += kBf16Parts, to += y_stride) {
      float* const three = products[i];
      ScaleAdd(1.0f, three + kWideRows, 1.0f, three + 2 * kWideRows, three + kWideRows, n);
      ScaleAdd(1.0f, three, 1.0f, three + kWideRows, to, n);
    }
  };
  MultiplyBlocks<uint16_t>(worker, n_rows, x, take, add);
}

}  // namespace stoker
