#pragma once

// Many tokens on integer activations: the blocking, written once for every vector width. Of sixteen
// panels (panel_layout.h) a chunk of columns is unpacked into scratch, codes to bytes and scales to
// f32, and multiplied with all tokens before the next; results so far are kept in y. `Isa` supplies
// the register tile. The order of a row's f32 operations is that of lanes/panel_dot_body.h, so both
// give the same bits.
//
// Sizes: 256 rows x 512 columns of codes are 128 KiB, which with the tokens' chunk (256 KiB for 512
// tokens) fit a 1 MiB second-level cache; a strip pair fits L1. Fewer rows would prepare the
// tokens' sides more often: 128 cost 4 % of a prefill.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/kernels/inline.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/lanes/panel_formats.h"

namespace stoker {

template <typename Isa>
struct PanelGemmBody {
  using L = typename Isa::Lanes;
  static constexpr int kStripRows = L::kRows;
  static constexpr int kParts = static_cast<int>(kPanelRows) / kStripRows;
  static constexpr int kStrips = Isa::kTileStrips;
  static constexpr int kTokens = Isa::kTileTokens;
  static constexpr int kPanels = 16;
  static constexpr int64_t kChunk = 512;
  static constexpr int64_t kChunkBlocks = kChunk / kSubBlock;

  // One strip of unpacked rows: codes [kChunk / 4][kStripRows][4]; scale and add
  // [kChunk / span][kStripRows], span being the columns that share a scale.
  struct Strip {
    alignas(64) std::byte codes[kChunk * kStripRows];
    alignas(64) float scale[kChunkBlocks * kStripRows];
    alignas(64) float add[kChunkBlocks * kStripRows];
  };

  // The scales and code sums of a tile's tokens, [block][token]. Sums come times minus the format's
  // code offset where it has one.
  struct TokenSides {
    float scale[kChunkBlocks * kTokens];
    float sum[kChunkBlocks * kTokens];
  };

  struct Scratch {
    Strip strips[kPanels * kParts];
    TokenSides sides;
  };

  template <typename F>
  static void PrepareSides(const Q8Rows& x, int64_t column, int64_t n_blocks, TokenSides* sides) {
    constexpr int kPerBlock = F::kTile.span / static_cast<int>(kSubBlock);
    constexpr float kFactor = F::kOffset == 0.0f ? 1.0f : -F::kOffset;
    for (int64_t t = 0; t < x.m; ++t) {
      const int64_t first = t * x.side_stride + column / kSubBlock;
      for (int64_t b = 0; b < n_blocks; ++b) {
        const int64_t side = first + kPerBlock * b;
        const float sum = kPerBlock == 2 ? x.sums[side] + x.sums[side + 1] : x.sums[side];
        sides->scale[b * x.m + t] = x.scales[side];
        sides->sum[b * x.m + t] = kFactor * sum;
      }
    }
  }

  template <DType kType, int kSpan>
  static STOKER_INLINE void UnpackSpan(const std::byte* record,
                                       const typename PanelFormat<L, kType>::Head& head, int part,
                                       int64_t block, Strip* strip) {
    using F = PanelFormat<L, kType>;
    typename L::Bytes codes[F::kQuads];
    typename L::F32 scale;
    typename L::F32 add;
    F::template Span<kSpan>(record, head, part, codes, &scale, &add);
    block += kSpan;
    for (int q = 0; q < F::kQuads; ++q) {
      L::StoreBytes(strip->codes + (block * F::kQuads + q) * L::kBytes, codes[q]);
    }
    L::Store(strip->scale + block * kStripRows, scale);
    if constexpr (F::kHasMinimum) L::Store(strip->add + block * kStripRows, add);
  }

  // The tiles that begin at `tile` and cover n_blocks spans, to kParts strips.
  template <DType kType>
  static void UnpackPanel(const std::byte* tile, int64_t n_blocks, Strip* strips) {
    using F = PanelFormat<L, kType>;
    constexpr PanelTile kTile = F::kTile;
    for (int64_t block = 0; block < n_blocks; block += kTile.spans(), tile += kTile.bytes()) {
      for (int part = 0; part < kParts; ++part) {
        const typename F::Head head = F::LoadHead(tile, part);
        Strip* strip = strips + part;
        const std::byte* record = tile + kTile.head_bytes();
        for (int r = 0; r < kTile.records(); ++r, record += kTile.record_bytes()) {
          const int64_t first = block + r * kTile.record_spans();
          UnpackSpan<kType, 0>(record, head, part, first, strip);
          if constexpr (kTile.record_spans() == 4) {
            UnpackSpan<kType, 1>(record, head, part, first, strip);
            UnpackSpan<kType, 2>(record, head, part, first, strip);
            UnpackSpan<kType, 3>(record, head, part, first, strip);
          }
        }
      }
    }
  }

  // One tile of the chunk: kStrips strips x x.m tokens.
  template <DType kType, int kT>
  static void Tile(const Strip* strips, const TokenSides& sides, const Q8Rows& x, int64_t column,
                   int64_t n_blocks, float* y, int64_t y_stride, int64_t n_rows) {
    if (x.m == kT) {
      Isa::template MultiplyTile<kType, kT>(strips, sides, x.codes + column, x.code_stride,
                                            n_blocks, column == 0, y, y_stride, n_rows);
    } else if constexpr (kT > 1) {
      Tile<kType, kT - 1>(strips, sides, x, column, n_blocks, y, y_stride, n_rows);
    }
  }

  // See TypeKernels::gemm_panels.
  template <DType kType>
  static void Gemm(const std::byte* panels, int64_t n_rows, const Q8Rows& x, std::byte* scratch,
                   float* y, int64_t y_stride) noexcept {
    using F = PanelFormat<L, kType>;
    constexpr PanelTile kTile = F::kTile;
    auto* const s = reinterpret_cast<Scratch*>(scratch);
    const int64_t panel_bytes = PanelBytes<kType>(x.k);
    for (int64_t row = 0; row < n_rows; row += kPanels * kPanelRows) {
      const int64_t rows = std::min<int64_t>(kPanels * kPanelRows, n_rows - row);
      const int64_t n_panels = (rows + kPanelRows - 1) / kPanelRows;
      const int64_t n_strips = n_panels * kParts;
      for (int64_t column = 0; column < x.k; column += kChunk) {
        const int64_t n_blocks = std::min(kChunk, x.k - column) / kTile.span;
        for (int64_t i = 0; i < n_panels; ++i) {
          UnpackPanel<kType>(panels + (row / kPanelRows + i) * panel_bytes +
                                 column / kTile.columns * kTile.bytes(),
                             n_blocks, s->strips + i * kParts);
        }
        // Tiles of nearly the same size: a small one at the end would waste its loads of weights.
        const int64_t n_tiles = (x.m + kTokens - 1) / kTokens;
        for (int64_t i_tile = 0; i_tile < n_tiles; ++i_tile) {
          const int64_t t = i_tile * x.m / n_tiles;
          const Q8Rows tile = SliceRows(x, t, (i_tile + 1) * x.m / n_tiles - t);
          PrepareSides<F>(tile, column, n_blocks, &s->sides);
          // An odd number of strips leaves the last pair half used; its rows are beyond n_rows.
          for (int64_t i = 0; i < n_strips; i += kStrips) {
            const int64_t first_row = row + i * kStripRows;
            Tile<kType, kTokens>(s->strips + i, s->sides, tile, column, n_blocks,
                                 y + t * y_stride + first_row, y_stride, n_rows - first_row);
          }
        }
      }
    }
  }

  template <DType... kTypes>
  static void AddAll(KernelTable* table) {
    table->gemm_scratch_bytes = sizeof(Scratch);
    ((table->For(kTypes).gemm_panels = Gemm<kTypes>), ...);
  }
};

}  // namespace stoker
