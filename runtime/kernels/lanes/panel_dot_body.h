#pragma once

// Few tokens on integer activations: y = W x over panels (panel_layout.h), which are streamed once
// and unpacked in registers for up to Isa::kMaxTokens tokens, one lane per row. A row's total takes
// the results of its groups of 256 columns in their order, as in lanes/panel_gemm_body.h, bit for
// bit.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/kernels/inline.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/lanes/panel_formats.h"
#include "runtime/kernels/lanes/panel_stream.h"

namespace stoker {

template <typename Isa>
struct PanelDotBody {
  using L = typename Isa::Lanes;
  using F32 = typename L::F32;
  using I32 = typename L::I32;
  static constexpr int kParts = static_cast<int>(kPanelRows) / L::kRows;

  // Which passes over a panel there are. The first of several asks for the next panel, which is
  // then in the second-level cache when its turn comes; panels of eight-bit codes are too large for
  // that (it cost a tenth).
  enum class Pass { kOnly, kFirst, kLater };

  template <typename F, Pass kPass>
  static constexpr bool kNextPanel = kPass == Pass::kFirst && F::kBits < 8;

  // Lines that are used up quickly: few codes in them (Isa::kSparseBits bits each for one token, or
  // more).
  template <typename F, int kT, Pass kPass>
  static constexpr bool kSparse = kPass == Pass::kOnly && F::kBits >= Isa::kSparseBits * kT;

  template <typename F, int kT, Pass kPass>
  static STOKER_INLINE void PrefetchTile(const std::byte* tile, int64_t index) {
    if constexpr (!kSparse<F, kT, kPass>) return;
    constexpr int64_t kTilesApart = std::max<int64_t>(1, kSparseEvery / F::kTile.bytes());
    if (index % kTilesApart != 0) return;
    for (int64_t at = 0; at < F::kTile.bytes(); at += kSparseEvery) {
      L::PrefetchToL2(tile + kSparseAhead + at);
    }
  }

  // One span's part of the lines, so that requests are spread over the work.
  template <typename F, int kT, Pass kPass, int kSpan>
  static STOKER_INLINE void PrefetchSpan(const std::byte* record, int64_t panel_bytes) {
    if constexpr (kSparse<F, kT, kPass> || kPass == Pass::kLater) return;
    constexpr int64_t kShare = F::kTile.record_bytes() / F::kTile.record_spans();
    for (int64_t line = kSpan * kShare; line < (kSpan + 1) * kShare; line += 64) {
      if constexpr (kNextPanel<F, kPass>) {
        L::PrefetchToL2(record + panel_bytes + line);
      } else {
        L::PrefetchToL1(record + kDenseAhead + line);
      }
    }
  }

  // A super-block: sums over its spans, all parts of a span before the next, so that memory is
  // read strictly forwards.
  template <DType kType, int kT, Pass kPass>
  struct SuperBlock {
    using F = PanelFormat<L, kType>;
    static constexpr PanelTile kTile = F::kTile;

    const int8_t* codes;  // of the first token
    const int16_t* sums;
    int64_t code_stride;
    int64_t sum_stride;
    int64_t panel_bytes;
    typename L::Products products[kParts][kT];
    I32 scaled_sums[kParts][kT];

    // Span kSpan of record r, whose scales are given.
    template <int kSpan>
    STOKER_INLINE void Span(const std::byte* record, const ScaleRows& scales, int r) {
      PrefetchSpan<F, kT, kPass, kSpan>(record, panel_bytes);
      const int8_t* const x = codes + (4 * r + kSpan) * kTile.span;
      for (int part = 0; part < kParts; ++part) {
        STOKER_KEEP_ORDER();
        typename L::Bytes quads[F::kQuads];
        F::template LoadForDot<kSpan>(record, part, quads);
        STOKER_KEEP_ORDER();
        const auto scale = L::LoadScales(scales.scale[kSpan] + part * L::kRows);
        for (int t = 0; t < kT; ++t) {
          products[part][t] =
              L::template AddDot<F>(products[part][t], quads, x + t * code_stride, scale);
        }
        if constexpr (F::kNeedsSums && kSpan % 2 == 0) {
          const auto pairs = L::LoadPairs(F::SumFactors(scales, kSpan) + part * L::kRows,
                                          F::SumFactors(scales, kSpan + 1) + part * L::kRows);
          for (int t = 0; t < kT; ++t) {
            scaled_sums[part][t] =
                L::AddPairs(scaled_sums[part][t], pairs,
                            sums + t * sum_stride + F::kFirstSum + 4 * r + kSpan);
          }
        }
      }
    }

    STOKER_INLINE void Run(const std::byte* tile) {
      for (int part = 0; part < kParts; ++part) {
        for (int t = 0; t < kT; ++t) {
          products[part][t] = L::ZeroProducts();
          scaled_sums[part][t] = L::ZeroI32();
        }
      }
      const std::byte* record = tile + kTile.head_bytes();
      for (int r = 0; r < kTile.records(); ++r, record += kTile.record_bytes()) {
        ScaleRows scales;
        F::LoadScales(record, &scales);
        Span<0>(record, scales, r);
        Span<1>(record, scales, r);
        Span<2>(record, scales, r);
        Span<3>(record, scales, r);
      }
    }
  };

  // total[t] += a group's result for token t, by the scale of its activations.
  template <int kT>
  static STOKER_INLINE void AddGroup(const Q8Rows& x, int64_t group, const F32 (&result)[kT],
                                     F32 (&total)[kT]) {
    for (int t = 0; t < kT; ++t) {
      total[t] = L::MulAdd(L::Set(x.scales[t * x.scale_stride + group]), result[t], total[t]);
    }
  }

  // total[part][t] += the products of the 256 columns of `group`, which begin at `tile`.
  template <DType kType, int kT, Pass kPass>
  static STOKER_INLINE void SuperBlocks(const std::byte* tile, const Q8Rows& x, int64_t group,
                                        F32 (&total)[kParts][kT]) {
    using F = PanelFormat<L, kType>;
    SuperBlock<kType, kT, kPass> block;
    block.panel_bytes = PanelBytes<kType>(x.k);
    block.codes = x.codes + group * kGroup;
    block.sums = x.sums + group * kSumsPerGroup;
    block.code_stride = x.code_stride;
    block.sum_stride = x.sum_stride;
    block.Run(tile);
    for (int part = 0; part < kParts; ++part) {
      const typename F::Head head = F::LoadHead(tile, part);
      F32 result[kT];
      for (int t = 0; t < kT; ++t) {
        result[t] = F::SuperBlock(head, block.products[part][t], block.scaled_sums[part][t]);
      }
      AddGroup(x, group, result, total[part]);
    }
  }

  // The same of n_blocks tiles of 32 columns, at most a group of them.
  template <DType kType, int kT, Pass kPass>
  static STOKER_INLINE void Blocks(const std::byte* tile, int64_t n_blocks, const Q8Rows& x,
                                   int64_t group, F32 (&total)[kParts][kT]) {
    using F = PanelFormat<L, kType>;
    F32 result[kParts][kT];
    for (auto& part : result) {
      for (F32& token : part) token = L::Zero();
    }
    const int8_t* codes = x.codes + group * kGroup;
    const int16_t* sums = x.sums + group * kSumsPerGroup + F::kFirstSum;
    for (int64_t b = 0; b < n_blocks; ++b, tile += F::kTile.bytes(), codes += 32, ++sums) {
      PrefetchTile<F, kT, kPass>(tile, b);
      PrefetchSpan<F, kT, kPass, 0>(tile, PanelBytes<kType>(x.k));
      for (int part = 0; part < kParts; ++part) {
        typename L::Bytes quads[F::kQuads];
        F::template LoadForDot<0>(tile + F::kTile.head_bytes(), part, quads);
        const typename F::Head head = F::LoadHead(tile, part);
        for (int t = 0; t < kT; ++t) {
          const I32 product =
              L::template Dot<F>(quads, codes + t * x.code_stride);
          result[part][t] =
              F::AddBlock(head, product, sums[t * x.sum_stride], result[part][t]);
        }
      }
    }
    for (int part = 0; part < kParts; ++part) AddGroup(x, group, result[part], total[part]);
  }

  template <DType kType, int kT, Pass kPass>
  static void Panel(const std::byte* panel, int64_t n_rows, const Q8Rows& x, float* y,
                    int64_t y_stride) {
    using F = PanelFormat<L, kType>;
    F32 total[kParts][kT];
    for (auto& part : total) {
      for (F32& token : part) token = L::Zero();
    }
    for (int64_t group = 0; group < x.n_groups; ++group) {
      if constexpr (F::kSuperBlock) {
        PrefetchTile<F, kT, kPass>(panel, group);
        SuperBlocks<kType, kT, kPass>(panel, x, group, total);
        panel += F::kTile.bytes();
      } else {
        const int64_t n_blocks = std::min(kGroup, x.k - group * kGroup) / F::kTile.columns;
        Blocks<kType, kT, kPass>(panel, n_blocks, x, group, total);
        panel += n_blocks * F::kTile.bytes();
      }
    }
    StorePanel<L>(total, n_rows, y, y_stride);
  }

  // Panel for the x.m tokens there are.
  template <DType kType, Pass kPass>
  static void PanelOfTokens(const std::byte* panel, int64_t n_rows, const Q8Rows& x, float* y,
                            int64_t y_stride) {
    ForCount<Isa::kMaxTokens>(x.m, [&](auto tokens) {
      Panel<kType, tokens, kPass>(panel, n_rows, x, y, y_stride);
    });
  }

  // See TypeKernels::dot_panels.
  template <DType kType>
  static void Dot(const std::byte* panels, int64_t n_rows, const Q8Rows& x, float* y,
                  int64_t y_stride) noexcept {
    constexpr int kMost = Isa::kMaxTokens;
    const int64_t panel_bytes = PanelBytes<kType>(x.k);
    for (int64_t row = 0; row < n_rows; row += kPanelRows, panels += panel_bytes) {
      if (x.m <= kMost) {
        PanelOfTokens<kType, Pass::kOnly>(panels, n_rows - row, x, y + row, y_stride);
        continue;
      }
      Panel<kType, kMost, Pass::kFirst>(panels, n_rows - row, SliceRows(x, 0, kMost), y + row,
                                        y_stride);
      for (int64_t t = kMost; t < x.m; t += kMost) {
        PanelOfTokens<kType, Pass::kLater>(
            panels, n_rows - row, SliceRows(x, t, std::min<int64_t>(kMost, x.m - t)),
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
