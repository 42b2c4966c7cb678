#pragma once

// Few tokens on integer activations: y = W x over panels (panel_layout.h), which are streamed once
// and unpacked in registers for up to Isa::kMaxTokens tokens. Per span of 16 or 32 columns the
// integer sum is exact; it is scaled and added in f32, span after span, one lane per row. The order
// of a row's f32 operations is that of lanes/panel_gemm_body.h, bit for bit.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/kernels/inline.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/lanes/panel_formats.h"

namespace stoker {

template <typename Isa>
struct PanelDotBody {
  using L = typename Isa::Lanes;
  using F32 = typename L::F32;
  static constexpr int kParts = static_cast<int>(kPanelRows) / L::kRows;

  // Bytes to ask for ahead of their use, into the second-level cache (measured on Zen 4). Where a
  // line is used up quickly the hardware's own prefetcher does best, and only wants to be shown the
  // way into the next page. Where there is work between two lines it falls behind, and every line
  // is asked for.
  static constexpr int64_t kSparseAhead = 4096;
  static constexpr int64_t kSparseEvery = 256;
  static constexpr int64_t kDenseAhead = 16384;

  template <typename F, int kT>
  static constexpr bool kDense = F::kBits < Isa::kDenseBitsPerToken* kT;

  template <typename F, int kT>
  static STOKER_INLINE void PrefetchTile(const std::byte* tile, int64_t column) {
    if constexpr (kDense<F, kT>) return;
    constexpr int64_t kTilesApart = std::max<int64_t>(1, kSparseEvery / F::kTile.bytes());
    if (column / F::kTile.columns % kTilesApart != 0) return;
    for (int64_t at = 0; at < F::kTile.bytes(); at += kSparseEvery) {
      L::Prefetch(tile + kSparseAhead + at);
    }
  }

  // One span's part of the lines, so that requests are spread over the work.
  template <typename F, int kT, int kSpan>
  static STOKER_INLINE void PrefetchSpan(const std::byte* record) {
    if constexpr (!kDense<F, kT>) return;
    constexpr int64_t kShare = F::kTile.record_bytes() / F::kTile.record_spans();
    for (int64_t line = 0; line < kShare; line += 64) {
      L::Prefetch(record + kSpan * kShare + kDenseAhead + line);
    }
  }

  // One span of a record, which begins at `column`.
  template <DType kType, int kT, int kSpan>
  static STOKER_INLINE void Step(const std::byte* record,
                                 const typename PanelFormat<L, kType>::Head& head, int part,
                                 const Q8Rows& x, int64_t column, F32 (&total)[kT]) {
    using F = PanelFormat<L, kType>;
    constexpr int kSides = F::kTile.span / static_cast<int>(kSubBlock);
    typename L::Bytes codes[F::kQuads];
    F32 scale;
    F32 add;
    F::template Span<kSpan>(record, head, part, codes, &scale, &add);
    if (part == 0) PrefetchSpan<F, kT, kSpan>(record);
    column += kSpan * F::kTile.span;
    const int8_t* x_codes = x.codes + column;
    const int64_t side = column / kSubBlock;
    for (int t = 0; t < kT; ++t) {
      const F32 product = L::template Dot<F::kBits, F::kSigned>(codes, x_codes + t * x.code_stride);
      const F32 x_scale = L::Set(x.scales[t * x.side_stride + side]);
      const auto x_sum = [&] {
        const float* sums = x.sums + t * x.side_stride + side;
        return L::Set(kSides == 2 ? sums[0] + sums[1] : sums[0]);
      };
      if constexpr (F::kHasMinimum) {
        total[t] = L::MulAdd(L::Mul(product, x_scale), scale, total[t]);
        total[t] = L::MulAdd(add, x_sum(), total[t]);
      } else if constexpr (F::kOffset != 0.0f) {
        const F32 shift = L::Mul(x_sum(), L::Set(-F::kOffset));
        total[t] = L::MulAdd(L::MulAdd(product, x_scale, shift), scale, total[t]);
      } else {
        total[t] = L::MulAdd(L::Mul(product, x_scale), scale, total[t]);
      }
    }
  }

  template <DType kType, int kT>
  static void Panel(const std::byte* panel, int64_t n_rows, const Q8Rows& x, float* y,
                    int64_t y_stride) {
    using F = PanelFormat<L, kType>;
    constexpr PanelTile kTile = F::kTile;
    F32 total[kParts][kT];
    for (auto& part : total) {
      for (F32& token : part) token = L::Zero();
    }
    const std::byte* tile = panel;
    for (int64_t column = 0; column < x.k; column += kTile.columns, tile += kTile.bytes()) {
      PrefetchTile<F, kT>(tile, column);
      for (int part = 0; part < kParts; ++part) {
        const typename F::Head head = F::LoadHead(tile, part);
        const std::byte* record = tile + kTile.head_bytes();
        int64_t at = column;
        for (int r = 0; r < kTile.records(); ++r) {
          Step<kType, kT, 0>(record, head, part, x, at, total[part]);
          if constexpr (kTile.record_spans() == 4) {
            Step<kType, kT, 1>(record, head, part, x, at, total[part]);
            Step<kType, kT, 2>(record, head, part, x, at, total[part]);
            Step<kType, kT, 3>(record, head, part, x, at, total[part]);
          }
          record += kTile.record_bytes();
          at += kTile.record_spans() * kTile.span;
        }
      }
    }
    for (int part = 0; part < kParts; ++part) {
      const int64_t rows = std::min<int64_t>(L::kRows, n_rows - part * L::kRows);
      if (rows <= 0) break;
      for (int t = 0; t < kT; ++t) {
        L::StoreFirst(y + t * y_stride + part * L::kRows, total[part][t], rows);
      }
    }
  }

  // Calls Panel for exactly x.m tokens.
  template <DType kType, int kT>
  static void PanelOfTokens(const std::byte* panel, int64_t n_rows, const Q8Rows& x, float* y,
                            int64_t y_stride) {
    if (x.m == kT) {
      Panel<kType, kT>(panel, n_rows, x, y, y_stride);
    } else if constexpr (kT > 1) {
      PanelOfTokens<kType, kT - 1>(panel, n_rows, x, y, y_stride);
    }
  }

  // See TypeKernels::dot_panels.
  template <DType kType>
  static void Dot(const std::byte* panels, int64_t n_rows, const Q8Rows& x, float* y,
                  int64_t y_stride) noexcept {
    const int64_t panel_bytes = PanelBytes<kType>(x.k);
    for (int64_t row = 0; row < n_rows; row += kPanelRows, panels += panel_bytes) {
      for (int64_t t = 0; t < x.m; t += Isa::kMaxTokens) {
        PanelOfTokens<kType, Isa::kMaxTokens>(
            panels, n_rows - row, SliceRows(x, t, std::min<int64_t>(Isa::kMaxTokens, x.m - t)),
            y + t * y_stride + row, y_stride);
      }
    }
  }

  template <DType... kTypes>
  static void AddAll(KernelTable* table) {
    ((table->For(kTypes).dot_panels = Dot<kTypes>), ...);
  }
};

}  // namespace stoker
