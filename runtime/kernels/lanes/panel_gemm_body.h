#pragma once

// Many tokens on integer activations: the blocking, written once for every vector width. Of sixteen
// panels (panel_layout.h) a chunk of columns is unpacked into scratch, scales to vectors and codes
// to bytes (but those of a format that Isa::kDirect names, which are read where they are), and
// multiplied with a piece of the tokens before the next; results so far are kept in y. `Isa`
// supplies the products of a register tile. The order of a row's f32 operations is that of
// lanes/panel_dot_body.h, so both give the same bits.
//
// Sizes: 256 rows x 512 columns of codes are 128 KiB, which with the chunk of a piece of 256 tokens
// (128 KiB) and its results (256 KiB) fit a 1 MiB second-level cache; a strip pair fits L1.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "numa/bytes.h"
#include "runtime/kernels/inline.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/lanes/panel_formats.h"

namespace stoker {

template <typename Isa>
struct PanelGemmBody {
  using L = typename Isa::Lanes;
  using F32 = typename L::F32;
  using I32 = typename L::I32;
  static constexpr int kStripRows = L::kRows;
  static constexpr int kParts = static_cast<int>(kPanelRows) / kStripRows;
  static constexpr int kStrips = Isa::kTileStrips;
  static constexpr int kTokens = Isa::kTileTokens;
  static constexpr int kPanels = 16;
  static constexpr int64_t kChunk = 512;
  static constexpr int64_t kPieceTokens = 256;
  static constexpr int64_t kChunkBlocks = kChunk / kSubBlock;
  static constexpr int64_t kVector = kStripRows * static_cast<int64_t>(sizeof(float));

  // One strip of unpacked rows: codes [kChunk / 4][kStripRows][4]; vectors of the chunk's spans:
  // scales, and what goes with the sums of the activations, for every two spans of a super-block;
  // d and minima of its super-blocks, or of its blocks of 32 columns.
  struct Strip {
    alignas(64) std::byte codes[kChunk * kStripRows];
    alignas(64) std::byte scale[kChunkBlocks * kVector];
    alignas(64) std::byte pairs[kChunkBlocks / 2 * kVector];
    alignas(64) float d[kChunkBlocks / 2 * kStripRows];
    alignas(64) float minimum[kChunkBlocks / 2 * kStripRows];
  };

  struct Scratch {
    Strip strips[kPanels * kParts];
  };

  template <DType kType, int kSpan>
  static STOKER_INLINE void UnpackSpan(const std::byte* record, const ScaleRows& scales, int part,
                                       int64_t block, Strip* strip) {
    using F = PanelFormat<L, kType>;
    block += kSpan;
    if constexpr (!Isa::template kDirect<F>) {
      typename L::Bytes codes[F::kQuads];
      F::template LoadCodes<kSpan>(record, part, codes);
      for (int q = 0; q < F::kQuads; ++q) {
        L::StoreBytes(strip->codes + (block * F::kQuads + q) * L::kBytes, codes[q]);
      }
    }
    if constexpr (F::kSuperBlock) {
      L::StoreScales(strip->scale + block * kVector,
                     L::LoadScales(scales.scale[kSpan] + part * L::kRows));
      if constexpr (F::kNeedsSums && kSpan % 2 == 0) {
        L::StoreBytes(strip->pairs + block / 2 * kVector,
                      L::LoadPairs(F::SumFactors(scales, kSpan) + part * L::kRows,
                                   F::SumFactors(scales, kSpan + 1) + part * L::kRows));
      }
    }
  }

  // The tiles that begin at `tile` and cover n_blocks spans, to kParts strips.
  template <DType kType>
  static void UnpackPanel(const std::byte* tile, int64_t n_blocks, Strip* strips) {
    using F = PanelFormat<L, kType>;
    constexpr PanelTile kTile = F::kTile;
    for (int64_t block = 0; block < n_blocks; block += kTile.spans(), tile += kTile.bytes()) {
      for (int part = 0; part < kParts; ++part) {
        const typename F::Head head = F::LoadHead(tile, part);
        const int64_t at = block / kTile.spans() * kStripRows;
        L::Store(strips[part].d + at, head.d);
        if constexpr (F::kHasMinimum) L::Store(strips[part].minimum + at, head.minimum);
      }
      const std::byte* record = tile + kTile.head_bytes();
      for (int r = 0; r < kTile.records(); ++r, record += kTile.record_bytes()) {
        ScaleRows scales;
        if constexpr (F::kSuperBlock) F::LoadScales(record, &scales);
        const int64_t first = block + r * kTile.record_spans();
        for (int part = 0; part < kParts; ++part) {
          UnpackSpan<kType, 0>(record, scales, part, first, strips + part);
          if constexpr (F::kSuperBlock) {
            UnpackSpan<kType, 1>(record, scales, part, first, strips + part);
            UnpackSpan<kType, 2>(record, scales, part, first, strips + part);
            UnpackSpan<kType, 3>(record, scales, part, first, strips + part);
          }
        }
      }
    }
  }

  // A register tile's weights: strips of scratch, and the panels they were unpacked from, at the
  // chunk's first column.
  struct Weights {
    const Strip* strips;
    const std::byte* panels[kStrips];
  };

  // Where the codes of span `block` of the chunk begin.
  template <typename F>
  static STOKER_INLINE const std::byte* CodesOf(const Weights& w, int s, int64_t block) {
    if constexpr (Isa::template kDirect<F>) {
      constexpr int64_t kSpans = kGroup / F::kTile.span;
      constexpr int64_t kGroupBytes = kGroup / F::kTile.columns * F::kTile.bytes();
      return w.panels[s] + block / kSpans * kGroupBytes + F::CodesOffset(block % kSpans);
    } else {
      return w.strips[s].codes + block * F::kQuads * L::kBytes;
    }
  }

  // kStrips strips x kT tokens, one group of the chunk: y += its products, or y = for the first
  // group of a row. x begins at the chunk's first column.
  template <DType kType, int kT>
  static STOKER_INLINE void MultiplyGroup(const Weights& w, const Q8Rows& x, int64_t group,
                                          int64_t n_blocks, bool first, float* y, int64_t y_stride,
                                          int64_t n_rows) {
    using F = PanelFormat<L, kType>;
    constexpr int64_t kSpans = kGroup / F::kTile.span;
    const Strip* const strips = w.strips;
    const int8_t* const codes = x.codes + group * kGroup;
    const int16_t* const sums = x.sums + group * kSumsPerGroup + F::kFirstSum;
    const int64_t first_block = group * kSpans;
    F32 result[kStrips][kT];
    if constexpr (F::kSuperBlock) {
      typename L::Products products[kStrips][kT];
      for (auto& strip : products) {
        for (auto& token : strip) token = L::ZeroProducts();
      }
      for (int64_t b = 0; b < kSpans; ++b) {
        const int64_t at = first_block + b;
        Isa::template AddScaledProducts<F, kT>(
            {CodesOf<F>(w, 0, at), CodesOf<F>(w, 1, at)},
            {strips[0].scale + at * kVector, strips[1].scale + at * kVector},
            codes + b * F::kTile.span, x.code_stride, products);
      }
      I32 scaled_sums[kStrips][kT];
      if constexpr (F::kNeedsSums) {
        for (auto& strip : scaled_sums) {
          for (I32& token : strip) token = L::ZeroI32();
        }
        for (int64_t b = 0; b < kSpans; b += 2) {
          for (int s = 0; s < kStrips; ++s) {
            const auto pairs = L::LoadBytes(strips[s].pairs + (first_block + b) / 2 * kVector);
            for (int t = 0; t < kT; ++t) {
              scaled_sums[s][t] =
                  L::AddPairs(scaled_sums[s][t], pairs, sums + t * x.sum_stride + b);
            }
          }
        }
      }
      for (int s = 0; s < kStrips; ++s) {
        const auto head = HeadOf<F>(strips[s], group);
        for (int t = 0; t < kT; ++t) {
          result[s][t] = F::SuperBlock(head, products[s][t],
                                       F::kNeedsSums ? scaled_sums[s][t] : L::ZeroI32());
        }
      }
    } else {
      for (auto& strip : result) {
        for (F32& token : strip) token = L::Zero();
      }
      for (int64_t b = 0; b < n_blocks; ++b) {
        I32 products[kStrips][kT];
        const int64_t at = first_block + b;
        Isa::template Products<F, kT>({CodesOf<F>(w, 0, at), CodesOf<F>(w, 1, at)},
                                      codes + b * F::kTile.span, x.code_stride, products);
        for (int s = 0; s < kStrips; ++s) {
          const auto head = HeadOf<F>(strips[s], first_block + b);
          for (int t = 0; t < kT; ++t) {
            result[s][t] =
                F::AddBlock(head, products[s][t], sums[t * x.sum_stride + b], result[s][t]);
          }
        }
      }
    }
    for (int s = 0; s < kStrips; ++s) {
      const int64_t rows = std::clamp<int64_t>(n_rows - s * kStripRows, 0, kStripRows);
      for (int t = 0; t < kT; ++t) {
        float* const to = y + t * y_stride + s * kStripRows;
        const F32 total = first ? L::Zero() : L::LoadFirst(to, rows);
        const F32 scale = L::Set(x.scales[t * x.scale_stride + group]);
        L::StoreFirst(to, L::MulAdd(scale, result[s][t], total), rows);
      }
    }
  }

  template <typename F>
  static STOKER_INLINE typename F::Head HeadOf(const Strip& strip, int64_t index) {
    typename F::Head head;
    head.d = L::Load(strip.d + index * kStripRows);
    if constexpr (F::kHasMinimum) head.minimum = L::Load(strip.minimum + index * kStripRows);
    return head;
  }

  // The chunk's n_columns: kStrips strips x kT tokens.
  template <DType kType, int kT>
  __attribute__((noinline)) static void MultiplyTile(const Weights& w, const Q8Rows& x,
                                                     int64_t n_columns, bool first, float* y,
                                                     int64_t y_stride, int64_t n_rows) {
    for (int64_t group = 0; group * kGroup < n_columns; ++group) {
      const int64_t n_blocks = std::min(kGroup, n_columns - group * kGroup) / 32;
      MultiplyGroup<kType, kT>(w, x, group, n_blocks, first && group == 0, y, y_stride, n_rows);
    }
  }

  // Tokens [first, first + count) from column `column` on, a multiple of a group.
  static Q8Rows SliceTile(const Q8Rows& x, int64_t first, int64_t count, int64_t column) {
    Q8Rows tile = SliceRows(x, first, count);
    tile.codes += column;
    tile.scales += column / kGroup;
    tile.sums += column / kGroup * kSumsPerGroup;
    return tile;
  }

  // Panels' bytes of one chunk, to be asked for while another is multiplied: `n_panels` pieces of
  // `piece` bytes, `apart` from each other.
  class Ahead {
   public:
    Ahead(const std::byte* first, int64_t n_panels, int64_t piece, int64_t apart, int64_t n_steps)
        : first_(first), piece_(piece), apart_(apart), lines_(n_panels * DivCeil(piece, kLine)),
          per_step_(DivCeil(lines_, n_steps)) {}

    void Step() {
      const int64_t end = std::min(lines_, next_ + per_step_);
      const int64_t per_piece = DivCeil(piece_, kLine);
      for (; next_ < end; ++next_) {
        L::PrefetchToL2(first_ + next_ / per_piece * apart_ + next_ % per_piece * kLine);
      }
    }

   private:
    static constexpr int64_t kLine = 64;
    const std::byte* first_;
    int64_t piece_;
    int64_t apart_;
    int64_t lines_;
    int64_t per_step_;
    int64_t next_ = 0;
  };

  // Rows of at most kPanels panels.
  struct RowBlock {
    const std::byte* panels;
    int64_t n_rows;
    int64_t n_panels() const { return DivCeil(n_rows, kPanelRows); }
  };

  // y = the products of a block of rows with at most kPieceTokens tokens. `next` is the block that
  // will be read after this one.
  template <DType kType>
  static void Multiply(const RowBlock& block, const RowBlock& next, const Q8Rows& x, Strip* strips,
                       float* y, int64_t y_stride) {
    const int64_t panel_bytes = PanelBytes<kType>(x.k);
    const int64_t n_strips = block.n_panels() * kParts;
    for (int64_t column = 0; column < x.k; column += kChunk) {
      const int64_t n_columns = std::min(kChunk, x.k - column);
      const std::byte* const chunk = block.panels + PanelBytes<kType>(column);
      for (int64_t i = 0; i < block.n_panels(); ++i) {
        UnpackPanel<kType>(chunk + i * panel_bytes, n_columns / PanelTileOf<kType>().span,
                           strips + i * kParts);
      }
      // Tiles of nearly the same size: a small one at the end would waste its loads of weights.
      const int64_t n_tiles = DivCeil<int64_t>(x.m, kTokens);
      const bool last = column + kChunk >= x.k;
      const int64_t next_column = last ? 0 : column + kChunk;
      const RowBlock& ahead_of = last ? next : block;
      Ahead ahead(ahead_of.panels + PanelBytes<kType>(next_column), ahead_of.n_panels(),
                  PanelBytes<kType>(std::min(kChunk, x.k - next_column)), panel_bytes,
                  n_tiles * DivCeil<int64_t>(n_strips, kStrips));
      for (int64_t i_tile = 0; i_tile < n_tiles; ++i_tile) {
        const int64_t t = i_tile * x.m / n_tiles;
        const Q8Rows tile = SliceTile(x, t, (i_tile + 1) * x.m / n_tiles - t, column);
        // An odd number of strips leaves the last pair half used; its rows are beyond n_rows.
        for (int64_t i = 0; i < n_strips; i += kStrips) {
          Weights w{strips + i, {}};
          for (int s = 0; s < kStrips; ++s) {
            const int64_t strip = std::min(i + s, n_strips - 1);
            w.panels[s] = chunk + strip / kParts * panel_bytes + strip % kParts * L::kBytes;
          }
          ahead.Step();
          ForCount<kTokens>(tile.m, [&](auto tokens) {
            MultiplyTile<kType, tokens>(w, tile, n_columns, column == 0,
                                        y + t * y_stride + i * kStripRows, y_stride,
                                        block.n_rows - i * kStripRows);
          });
        }
      }
    }
  }

  // See TypeKernels::gemm_panels.
  template <DType kType>
  static void Gemm(const std::byte* panels, int64_t n_rows, const Q8Rows& x, std::byte* scratch,
                   float* y, int64_t y_stride) noexcept {
    auto* const strips = reinterpret_cast<Strip*>(scratch);
    const int64_t panel_bytes = PanelBytes<kType>(x.k);
    const auto block_at = [&](int64_t row) {
      return RowBlock{panels + row / kPanelRows * panel_bytes,
                      std::clamp<int64_t>(n_rows - row, 0, kPanels * kPanelRows)};
    };
    const int64_t n_pieces = DivCeil(x.m, kPieceTokens);
    for (int64_t row = 0; row < n_rows; row += kPanels * kPanelRows) {
      const RowBlock block = block_at(row);
      for (int64_t piece = 0; piece < n_pieces; ++piece) {
        const int64_t t = piece * x.m / n_pieces;
        const RowBlock next = piece + 1 < n_pieces ? block : block_at(row + kPanels * kPanelRows);
        Multiply<kType>(block, next, SliceRows(x, t, (piece + 1) * x.m / n_pieces - t), strips,
                        y + t * y_stride + row, y_stride);
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
