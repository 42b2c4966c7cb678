#pragma once

// Panels (panel_layout.h) to registers, written once for every vector width. `L` is the lanes type
// of one instruction set (avx2/panel_lanes.h, avx512/panel_lanes.h): a vector has L::kRows rows of
// the panel's sixteen, and a panel is walked in 16 / L::kRows parts.
//
// Formats of 256 columns (super-blocks) have integer scales per span: products, times these scales,
// are summed over the tile, and d comes in at its end. Formats of 32 columns have an f16 d per
// tile: tiles are summed over a group of 256 columns. Both bodies, for few and for many tokens,
// take the arithmetic from here, span after span, so their bits are the same.
//
// Eight-bit codes (Q8_0, INT8 and the IQ4 levels) are unsigned with 128 added where the instruction
// set multiplies u8 x s8 of the full range (L::kUnsignedBytes), and signed elsewhere.

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/inline.h"
#include "runtime/kernels/panel_layout.h"

namespace stoker {

// The integer scales and minima of one record's spans, all sixteen rows of a panel.
struct ScaleRows {
  alignas(64) int8_t scale[4][kPanelRows];
  alignas(64) int8_t minimum[4][kPanelRows];
};

template <typename L, DType kType>
struct PanelFormat {
  using Bytes = typename L::Bytes;
  using F32 = typename L::F32;
  using I32 = typename L::I32;

  static constexpr PanelTile kTile = PanelTileOf<kType>();
  static constexpr int kQuads = kTile.quads();
  static constexpr bool kSuperBlock = kTile.columns == 256;
  static constexpr bool kLevels = kType == DType::kIQ4_NL || kType == DType::kIQ4_XS;
  static constexpr bool kEightBits =
      kLevels || kType == DType::kQ8_0 || kType == DType::kInt8Row;
  static constexpr bool kSigned = kEightBits && !L::kUnsignedBytes;
  static constexpr bool kHasMinimum = kTile.has_minimum;
  static constexpr int kBits = kEightBits ? 8 : kTile.low_bits + kTile.high_bits;
  // Plain four-bit codes: two to a byte, nothing to be looked up or added.
  static constexpr bool kNibbles = kTile.low_bits == 4 && kTile.high_bits == 0 && !kLevels;
  // Whether L::Dot wants the upper of a byte's two codes where it lies, that is times sixteen.
  static constexpr bool kNibblesInPlace = L::kNibblesInPlace && kNibbles;
  // What is to be subtracted from every code.
  static constexpr int kOffset = kHasMinimum || kSigned  ? 0
                                 : kEightBits            ? 128
                                 : kType == DType::kQ4_0 ? 8
                                 : kType == DType::kQ5_0 ? 16
                                 : kType == DType::kQ3_K ? 4
                                                         : 32;
  // Whether the sums of the activations' codes are needed, and where those of a tile's spans begin
  // among the sums of a group.
  static constexpr bool kNeedsSums = kHasMinimum || kOffset != 0;
  static constexpr int kFirstSum = kTile.span == 16 ? 0 : 16;

  struct Head {
    F32 d;
    F32 minimum;  // negated for super-blocks, whose minima are subtracted
  };

  static STOKER_INLINE Head LoadHead(const std::byte* tile, int part) {
    Head head;
    if constexpr (!kTile.has_scale) {
      head.d = L::Set(1.0f);
    } else {
      head.d = L::LoadHalves(tile + part * 2 * L::kRows);
    }
    if constexpr (kHasMinimum) {
      head.minimum = L::LoadHalves(tile + kHalfBytes + part * 2 * L::kRows);
      if constexpr (kSuperBlock) head.minimum = L::Negate(head.minimum);
    }
    return head;
  }

  // The scales of a super-block's record, and its minima where the format has them.
  static STOKER_INLINE void LoadScales(const std::byte* record, ScaleRows* rows) {
    constexpr int kVectors = 4 * kPanelRows / L::kBytes;
    constexpr int64_t kHigh = kTile.scale_bytes();
    for (int v = 0; v < kVectors; ++v) {
      Bytes scale;
      if constexpr (kType == DType::kQ6_K) {
        scale = L::LoadBytes(record + v * L::kBytes);
      } else if constexpr (kHasMinimum) {  // Q2_K, Q4_K, Q5_K
        const Bytes low = L::LoadBytes(record + v * L::kBytes);
        scale = L::template Bits<0>(low, 15);
        Bytes minimum = L::template Bits<4>(low, 15);
        if constexpr (kType != DType::kQ2_K) {
          const Bytes high = L::LoadTwoRows(record + kHigh, v);
          scale = L::OrMasked(scale, L::template ShiftRows<4, 0, 4, 0>(high, v), 0x30);
          minimum = L::OrMasked(minimum, L::template ShiftRows<2, -2, 2, -2>(high, v), 0x30);
        }
        StoreRows(rows->minimum, v, minimum);
      } else {  // Q3_K, IQ4_XS
        const Bytes low = L::LoadTwoRows(record, v);
        scale = L::template Bits<0>(L::template ShiftRows<0, -4, 0, -4>(low, v), 15);
        const Bytes high = L::LoadOneRow(record + kHigh);
        scale = L::OrMasked(scale, L::template ShiftRows<4, 2, 0, -2>(high, v), 0x30);
        scale = L::SubBytes(scale, 32);
      }
      StoreRows(rows->scale, v, scale);
    }
  }

  // What the sums of a super-block's activations are multiplied with, for span s of a record.
  static STOKER_INLINE const int8_t* SumFactors(const ScaleRows& rows, int s) {
    return kHasMinimum ? rows.minimum[s] : rows.scale[s];
  }

  // A super-block's result from the sum of its scaled products and that of its scaled sums.
  static STOKER_INLINE F32 SuperBlock(const Head& head, typename L::Products products, I32 sums) {
    if constexpr (kHasMinimum) {
      return L::MulAdd(head.d, L::ToF32(products), L::Mul(head.minimum, L::ToF32(sums)));
    } else if constexpr (kOffset != 0) {
      return L::Mul(head.d, L::LessSums(products, kOffset, sums));
    } else {
      return L::Mul(head.d, L::ToF32(products));
    }
  }

  // `total` with the product of a block of 32 columns added; `sum` is that of its activations.
  static STOKER_INLINE F32 AddBlock(const Head& head, I32 product, int sum, F32 total) {
    if constexpr (kHasMinimum) {
      total = L::MulAdd(head.minimum, L::Set(static_cast<float>(sum)), total);
    } else if constexpr (kOffset != 0) {
      product = L::SubI32(product, L::SetI32(kOffset * sum));
    }
    return L::MulAdd(head.d, L::ToF32(product), total);
  }

  // From the beginning of a group's first tile to the codes of span b of the group, for formats
  // without high bits.
  static STOKER_INLINE int64_t CodesOffset(int64_t b) {
    static_assert(kTile.high_bits == 0);
    const int64_t in_record = kTile.head_bytes() + kTile.Codes(0);
    if constexpr (!kSuperBlock) return b * kTile.bytes() + in_record;
    return b / 4 * kTile.record_bytes() + in_record + b % 4 * kTile.low_bytes();
  }

  // The codes of span kSpan of a record, as quads in the form L::Dot takes.
  template <int kSpan>
  static STOKER_INLINE void LoadForDot(const std::byte* record, int part,
                                       Bytes (&codes)[kQuads]) {
    if constexpr (kNibblesInPlace) {
      constexpr int kVectors = kQuads / 2;
      const std::byte* low = record + kTile.Codes(kSpan) + part * L::kBytes;
      for (int v = 0; v < kVectors; ++v) {
        const Bytes both = L::LoadBytes(low + v * kQuadBytes);
        codes[v] = L::template Bits<0>(both, 0x0f);
        codes[kVectors + v] = L::template Bits<0>(both, 0xf0);
      }
    } else {
      LoadCodes<kSpan>(record, part, codes);
    }
  }

  // The same, every code as it is.
  template <int kSpan>
  static STOKER_INLINE void LoadCodes(const std::byte* record, int part, Bytes (&codes)[kQuads]) {
    constexpr int64_t kLow = kTile.Codes(kSpan);
    constexpr int64_t kHigh = kTile.HighCodes(kSpan);
    const std::byte* low = record + kLow + part * L::kBytes;
    const std::byte* high = record + kHigh + part * L::kBytes;
    if constexpr (kTile.low_bits == 8) {
      for (int q = 0; q < kQuads; ++q)
        codes[q] = L::EightBitCodes(L::LoadBytes(low + q * kQuadBytes));
    } else if constexpr (kTile.low_bits == 4) {
      constexpr int kVectors = kQuads / 2;
      for (int v = 0; v < kVectors; ++v) {
        const Bytes both = L::LoadBytes(low + v * kQuadBytes);
        codes[v] = L::template Bits<0>(both, 15);
        codes[kVectors + v] = L::template Bits<4>(both, 15);
      }
      if constexpr (kLevels) {
        for (Bytes& quad : codes) quad = L::LevelCodes(quad);
      }
      if constexpr (kTile.high_bits > 0) {
        AddHigh<kTile.high_bits, 4, 0>(L::LoadBytes(high), codes);
      }
    } else {
      const Bytes all = L::LoadBytes(low);
      codes[0] = L::template Bits<0>(all, 3);
      codes[1] = L::template Bits<2>(all, 3);
      codes[2] = L::template Bits<4>(all, 3);
      codes[3] = L::template Bits<6>(all, 3);
      if constexpr (kTile.high_bits == 1) {
        AddHigh<1, 2, kSpan % 2 * 4>(L::LoadBytes(high), codes);
      }
    }
  }

 private:
  static STOKER_INLINE void StoreRows(int8_t (&rows)[4][kPanelRows], int v, Bytes value) {
    L::StoreBytes(reinterpret_cast<std::byte*>(rows) + v * L::kBytes, value);
  }

  // codes[q] |= bits [first + width q, + width) of `high`, moved to bit kTo.
  template <int kWidth, int kTo, int kFirst, int kQuad = 0>
  static STOKER_INLINE void AddHigh(Bytes high, Bytes (&codes)[kQuads]) {
    constexpr int kMask = ((1 << kWidth) - 1) << kTo;
    codes[kQuad] = L::template OrBits<kFirst + kWidth * kQuad - kTo>(codes[kQuad], high, kMask);
    if constexpr (kQuad + 1 < kQuads) AddHigh<kWidth, kTo, kFirst, kQuad + 1>(high, codes);
  }
};

}  // namespace stoker
