#pragma once

// Panels (panel_layout.h) to registers, written once for every vector width. `L` is the lanes type
// of one instruction set (avx2/panel_lanes.h, avx512/panel_lanes.h): a vector has L::kRows rows of
// the panel's sixteen, and a panel is walked in 16 / L::kRows parts. PanelFormat<L, type>::Head
// keeps what the spans of a tile share; Span gives the codes of one span as quads, the scale of its
// rows and, for formats with a minimum, the additive term: w = scale * (code - kOffset) + add.
//
// Eight-bit codes (Q8_0 and the IQ4 levels) are unsigned with 128 added where the instruction set
// multiplies u8 x s8 of the full range (L::kUnsignedBytes), and signed elsewhere.

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/inline.h"
#include "runtime/kernels/panel_layout.h"

namespace stoker {

template <typename L, DType kType>
struct PanelFormat {
  using Bytes = typename L::Bytes;
  using F32 = typename L::F32;
  using Row8 = typename L::Row8;  // one byte per row

  static constexpr PanelTile kTile = PanelTileOf<kType>();
  static constexpr int kQuads = kTile.quads();
  static constexpr bool kLevels = kType == DType::kIQ4_NL || kType == DType::kIQ4_XS;
  static constexpr bool kEightBits = kLevels || kType == DType::kQ8_0;
  static constexpr bool kSigned = kEightBits && !L::kUnsignedBytes;
  static constexpr bool kHasMinimum = kTile.has_minimum;
  static constexpr int kBits = kEightBits ? 8 : kTile.low_bits + kTile.high_bits;
  // What is to be subtracted from every code: nothing, a power of two, so that its product with a
  // sum of activations is exact.
  static constexpr float kOffset = kHasMinimum || kSigned  ? 0.0f
                                   : kEightBits            ? 128.0f
                                   : kType == DType::kQ4_0 ? 8.0f
                                   : kType == DType::kQ5_0 ? 16.0f
                                   : kType == DType::kQ3_K ? 4.0f
                                                           : 32.0f;

  struct Head {
    F32 d;
    F32 minimum;  // negated for the K formats, whose minima are subtracted
  };

  static STOKER_INLINE Head LoadHead(const std::byte* tile, int part) {
    Head head;
    head.d = L::LoadHalves(tile + part * 2 * L::kRows);
    if constexpr (kHasMinimum) {
      head.minimum = L::LoadHalves(tile + kHalfBytes + part * 2 * L::kRows);
      if constexpr (kTile.columns == 256) head.minimum = L::Negate(head.minimum);
    }
    return head;
  }

  // Span kSpan of a record.
  template <int kSpan>
  static STOKER_INLINE void Span(const std::byte* record, const Head& head, int part,
                                 Bytes (&codes)[kQuads], F32* scale, F32* add) {
    LoadCodes<kSpan>(record, part, codes);
    const std::byte* row = record + part * L::kRows;
    if constexpr (kTile.columns == 32) {
      *scale = head.d;
      if constexpr (kHasMinimum) *add = head.minimum;
    } else if constexpr (kType == DType::kQ6_K) {
      *scale = L::Mul(L::FromSigned(LoadRow<kTile.Scale(kSpan)>(row)), head.d);
    } else if constexpr (kType == DType::kQ2_K) {
      const Row8 both = LoadRow<kTile.Scale(kSpan)>(row);
      *scale = L::Mul(L::FromUnsigned(L::template Bits8<0>(both, 15)), head.d);
      *add = L::Mul(L::FromUnsigned(L::template Bits8<4>(both, 15)), head.minimum);
    } else if constexpr (kHasMinimum) {  // Q4_K, Q5_K
      const Row8 low = LoadRow<kTile.Scale(kSpan)>(row);
      const Row8 high = LoadRow<kTile.HighScale(kSpan)>(row);
      constexpr int kShift = kSpan % 2 * 4;
      *scale = L::Mul(L::FromUnsigned(L::Or8(L::template Bits8<0>(low, 15),
                                             L::template Bits8<kShift - 4>(high, 0x30))),
                      head.d);
      *add = L::Mul(L::FromUnsigned(L::Or8(L::template Bits8<4>(low, 15),
                                           L::template Bits8<kShift - 2>(high, 0x30))),
                    head.minimum);
    } else {  // Q3_K, IQ4_XS
      const Row8 low = LoadRow<kTile.Scale(kSpan)>(row);
      const Row8 high = LoadRow<kTile.HighScale(kSpan)>(row);
      const Row8 sixbit = L::Or8(L::template Bits8<kSpan % 2 * 4>(low, 15),
                                 L::template Bits8<kSpan * 2 - 4>(high, 0x30));
      *scale = L::Mul(L::FromSigned(L::Sub8(sixbit, 32)), head.d);
    }
  }

 private:
  template <int64_t kAt>
  static STOKER_INLINE Row8 LoadRow(const std::byte* row) {
    return L::LoadRow8(row + kAt);
  }

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

  // codes[q] |= bits [first + width q, + width) of `high`, moved to bit kTo.
  template <int kWidth, int kTo, int kFirst, int kQuad = 0>
  static STOKER_INLINE void AddHigh(Bytes high, Bytes (&codes)[kQuads]) {
    constexpr int kMask = ((1 << kWidth) - 1) << kTo;
    codes[kQuad] = L::template OrBits<kFirst + kWidth * kQuad - kTo>(codes[kQuad], high, kMask);
    if constexpr (kQuad + 1 < kQuads) AddHigh<kWidth, kTo, kFirst, kQuad + 1>(high, codes);
  }
};

}  // namespace stoker
