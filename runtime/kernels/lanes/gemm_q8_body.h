#pragma once

// Many tokens on integer activations: the blocking, written once for every vector width. A panel of
// weight rows by a chunk of columns is unpacked once into scratch (codes interleaved by four
// columns, scales per row) and multiplied with all tokens before the next. `Isa` supplies the
// strip width, the unpacking of one strip and the register tile.
//
// Sizes: 128 rows x 512 columns of codes are 64 KiB, which with the tokens' chunk (256 KiB for 512
// tokens) and the results (256 KiB) fit a 1 MiB second-level cache; a strip pair fits L1.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/kernels/kernel_table.h"

namespace stoker {

template <typename Isa>
struct GemmQ8Body {
  static constexpr int kStripRows = Isa::kStripRows;
  static constexpr int kStrips = Isa::kTileStrips;
  static constexpr int kTokens = Isa::kTileTokens;
  static constexpr int kPanelStrips = 128 / kStripRows;
  static constexpr int64_t kChunkGroups = 2;
  static constexpr int64_t kChunk = kChunkGroups * kGroup;
  static constexpr int64_t kChunkBlocks = kChunk / kSubBlock;

  // One strip of unpacked rows: codes [kChunk / 4][kStripRows][4]; scale and add
  // [kChunk / span][kStripRows], span being the elements that share a scale.
  struct Strip {
    alignas(64) uint8_t codes[kChunk * kStripRows];
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
    Strip strips[kPanelStrips];
    TokenSides sides;
  };

  template <typename Format>
  static void PrepareSides(const Q8Rows& x, int64_t first_group, int64_t n_blocks,
                           TokenSides* sides) {
    constexpr int kPerBlock = Format::kScaleSpan / static_cast<int>(kSubBlock);
    constexpr float kFactor = Format::kOffset == 0.0f ? 1.0f : -Format::kOffset;
    for (int64_t t = 0; t < x.m; ++t) {
      for (int64_t b = 0; b < n_blocks; ++b) {
        const int64_t sub_block = kPerBlock * b;
        const int64_t group = first_group + sub_block / kSubBlocksPerGroup;
        const int s = static_cast<int>(sub_block % kSubBlocksPerGroup);
        const int64_t side = t * x.side_stride + group * kSubBlocksPerGroup;
        float sum = x.sums[side + Isa::SidePosition(s)];
        if constexpr (kPerBlock == 2) sum += x.sums[side + Isa::SidePosition(s + 1)];
        sides->scale[b * x.m + t] = x.scales[side + Isa::SidePosition(s)];
        sides->sum[b * x.m + t] = kFactor * sum;
      }
    }
  }

  // One tile of the chunk: kStrips strips x x.m tokens.
  template <DType kType, int kT>
  static void Tile(const Strip* strips, const TokenSides& sides, const Q8Rows& x,
                   int64_t first_group, int64_t n_blocks, bool first, float* y, int64_t y_stride,
                   int64_t n_rows) {
    if (x.m == kT) {
      Isa::template MultiplyTile<kType, kT>(strips, sides, x.codes + first_group * kGroup,
                                            x.code_stride, n_blocks, first, y, y_stride, n_rows);
    } else if constexpr (kT > 1) {
      Tile<kType, kT - 1>(strips, sides, x, first_group, n_blocks, first, y, y_stride, n_rows);
    }
  }

  template <DType kType>
  static void Gemm(const WeightRows& w, const Q8Rows& x, std::byte* scratch, float* y,
                   int64_t y_stride) noexcept {
    using Format = typename Isa::template FormatOf<kType>;
    auto* const s = reinterpret_cast<Scratch*>(scratch);
    for (int64_t row = 0; row < w.n_rows; row += kPanelStrips * kStripRows) {
      const int64_t rows = std::min<int64_t>(kPanelStrips * kStripRows, w.n_rows - row);
      const int64_t used_strips = (rows + kStripRows - 1) / kStripRows;
      const int64_t n_strips = (used_strips + kStrips - 1) / kStrips * kStrips;
      for (int64_t group = 0; group < x.n_groups; group += kChunkGroups) {
        const int64_t n_groups = std::min(kChunkGroups, x.n_groups - group);
        const int64_t n_blocks = n_groups * (kGroup / Format::kScaleSpan);
        for (int64_t i = 0; i < n_strips; ++i) {
          const int64_t first_row = row + i * kStripRows;
          const WeightRows strip_rows{
              w.data + first_row * w.row_bytes + group * Format::kGroupBytes, w.row_bytes,
              std::clamp<int64_t>(w.n_rows - first_row, 0, kStripRows)};
          Isa::template UnpackStrip<kType>(strip_rows, std::min(n_groups * kGroup,
                                                                x.k - group * kGroup),
                                           n_groups, &s->strips[i]);
        }
        for (int64_t t = 0; t < x.m; t += kTokens) {
          const Q8Rows tile = SliceRows(x, t, std::min<int64_t>(kTokens, x.m - t));
          PrepareSides<Format>(tile, group, n_blocks, &s->sides);
          for (int64_t i = 0; i < n_strips; i += kStrips) {
            const int64_t first_row = row + i * kStripRows;
            Tile<kType, kTokens>(s->strips + i, s->sides, tile, group, n_blocks, group == 0,
                                 y + t * y_stride + first_row, y_stride, w.n_rows - first_row);
          }
        }
      }
    }
  }

  template <DType... kTypes>
  static void Add(KernelTable* table) {
    ((table->For(kTypes).gemm_q8 = Gemm<kTypes>), ...);
  }

  static void AddAll(KernelTable* table) {
    table->gemm_scratch_bytes = sizeof(Scratch);
    Add<DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,
        DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS>(
        table);
  }
};

}  // namespace stoker
