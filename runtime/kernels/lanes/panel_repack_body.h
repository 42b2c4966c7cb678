#pragma once

// Sixteen rows of file blocks to one panel (panel_layout.h), written once for every vector width.
// `L` is the lanes type of one instruction set (avx2/panel_lanes.h, avx512/panel_lanes.h): a vector
// has L::kRows rows of the panel's sixteen, and a panel is made in 16 / L::kRows parts. A
// permutation of bits, nothing is computed. Rows beyond n_rows become zeros.
//
// The bytes of the blocks are transposed first, four bytes of every row to a vector; a panel's quad
// is then one of those vectors, or a field of bits in it. Vectors of which each has a field for
// every span become vectors of which each has the fields of one span by swapping fields between
// pairs of them, as a matrix of bits is transposed.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
#include "runtime/kernels/inline.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/panel_layout.h"

namespace stoker {

template <DType kType>
struct BlockOf;
template <>
struct BlockOf<DType::kQ4_0> {
  using Type = BlockQ4_0;
};
template <>
struct BlockOf<DType::kQ4_1> {
  using Type = BlockQ4_1;
};
template <>
struct BlockOf<DType::kQ5_0> {
  using Type = BlockQ5_0;
};
template <>
struct BlockOf<DType::kQ5_1> {
  using Type = BlockQ5_1;
};
template <>
struct BlockOf<DType::kQ8_0> {
  using Type = BlockQ8_0;
};
template <>
struct BlockOf<DType::kIQ4_NL> {
  using Type = BlockIQ4_NL;
};
template <>
struct BlockOf<DType::kInt8Row> {
  using Type = BlockInt8Row;
};
template <>
struct BlockOf<DType::kQ2_K> {
  using Type = BlockQ2_K;
};
template <>
struct BlockOf<DType::kQ3_K> {
  using Type = BlockQ3_K;
};
template <>
struct BlockOf<DType::kQ4_K> {
  using Type = BlockQ4_K;
};
template <>
struct BlockOf<DType::kQ5_K> {
  using Type = BlockQ5_K;
};
template <>
struct BlockOf<DType::kQ6_K> {
  using Type = BlockQ6_K;
};
template <>
struct BlockOf<DType::kIQ4_XS> {
  using Type = BlockIQ4_XS;
};

template <typename L, DType kType>
struct PanelRepackBody {
  using Bytes = typename L::Bytes;
  using Block = typename BlockOf<kType>::Type;
  static constexpr PanelTile kTile = PanelTileOf<kType>();

  // One part of one tile: where its rows' blocks are, and the panel's tile.
  struct Part {
    const std::byte* const* blocks;  // [L::kRows]
    std::byte* tile;
    int index;

    STOKER_INLINE void Load(int64_t offset, Bytes* quads) const {
      L::LoadQuads(blocks, offset, quads);
    }
    template <int kSpan>
    STOKER_INLINE std::byte* Record() const {
      return tile + kTile.head_bytes() + kSpan / kTile.record_spans() * kTile.record_bytes();
    }
    // Vector v of the low codes of a span, and its high codes.
    template <int kSpan>
    STOKER_INLINE void PutCodes(int v, Bytes codes) const {
      constexpr int64_t kAt = kTile.Codes(kSpan % kTile.record_spans());
      L::StoreBytes(Record<kSpan>() + kAt + v * kQuadBytes + index * L::kBytes, codes);
    }
    template <int kSpan>
    STOKER_INLINE void PutHighCodes(Bytes codes) const {
      constexpr int64_t kAt = kTile.HighCodes(kSpan % kTile.record_spans());
      L::StoreBytes(Record<kSpan>() + kAt + index * L::kBytes, codes);
    }
    // A byte of each row to a row of scales.
    template <int kSpan>
    STOKER_INLINE void PutScales(typename L::Row8 scales) const {
      constexpr int64_t kAt = kTile.Scale(kSpan % kTile.record_spans());
      L::StoreRow8(Record<kSpan>() + kAt + index * L::kRows, scales);
    }
    template <int kSpan>
    STOKER_INLINE void PutHighScales(typename L::Row8 scales) const {
      constexpr int64_t kAt = kTile.HighScale(kSpan % kTile.record_spans());
      L::StoreRow8(Record<kSpan>() + kAt + index * L::kRows, scales);
    }
  };

  // Exchanges the upper field of every 2 kShift bits of `a` with the lower one of `b`.
  template <int kShift>
  static STOKER_INLINE void SwapFields(Bytes& a, Bytes& b) {
    constexpr int kLower = kShift == 4 ? 0x0f : kShift == 2 ? 0x33 : 0x55;
    const Bytes upper_a = L::template Bits<kShift>(a, kLower);
    a = L::template OrBits<-kShift>(L::template Bits<0>(a, kLower), b, kLower << kShift);
    b = L::template OrBits<0>(upper_a, b, kLower << kShift);
  }

  // From vectors q with a field of kBits for every s to vectors s with a field for every q.
  template <int kBits>
  static STOKER_INLINE void TransposeFields(Bytes* v) {
    constexpr int kCount = 8 / kBits;
    for (int i = 0; i < kCount / 2; ++i) SwapFields<4>(v[i], v[i + kCount / 2]);
    for (int i = 0; i < kCount; i += kCount / 2) {
      for (int j = 0; j < kCount / 4; ++j) SwapFields<2>(v[i + j], v[i + j + kCount / 4]);
    }
    if constexpr (kBits == 1) {
      for (int i = 0; i < kCount; i += 2) SwapFields<1>(v[i], v[i + 1]);
    }
  }

  // Two rows of four-bit fields to one of bytes, the second on top.
  static STOKER_INLINE typename L::Row8 Join(typename L::Row8 low, typename L::Row8 high) {
    return L::Or8(low, L::template Bits8<-4>(high, 0xf0));
  }

  // Bit 4 q + c of every word to bit 8 c + q: fifth bits in columns' order to bytes of a quad.
  static STOKER_INLINE uint32_t QuadBits(uint32_t word) {
    const auto swap = [&word](int shift, uint32_t lower) {
      const uint32_t differ = ((word >> shift) ^ word) & lower;
      word ^= differ | differ << shift;
    };
    // Exchanges of two bits of the index: 4 and 1, 3 and 0, 2 and 1, 1 and 0.
    swap(14, 0x0000ccccu);
    swap(7, 0x00aa00aau);
    swap(2, 0x0c0c0c0cu);
    swap(1, 0x22222222u);
    return word;
  }

  static STOKER_INLINE void WriteCodes(const Part& part) {
    constexpr int64_t kQs = QuantOffset();
    if constexpr (kType == DType::kQ8_0 || kType == DType::kInt8Row) {
      Bytes quads[8];
      part.Load(kQs, quads);
      part.Load(kQs + 16, quads + 4);
      for (int q = 0; q < 8; ++q) part.template PutCodes<0>(q, quads[q]);
    } else if constexpr (kLowNibblesFirst) {
      // The nibbles of these blocks are paired as those of a panel are.
      ForConstants<kTile.spans()>([&](auto span) STOKER_INLINE_LAMBDA {
        Bytes quads[4];
        part.Load(kQs + 16 * span, quads);
        for (int v = 0; v < 4; ++v) part.template PutCodes<span>(v, quads[v]);
      });
      if constexpr (kTile.high_bits > 0) {
        alignas(64) uint32_t words[L::kRows];
        for (int r = 0; r < L::kRows; ++r) {
          std::memcpy(&words[r], part.blocks[r] + offsetof(Block, qh), sizeof(words[r]));
        }
        for (uint32_t& word : words) word = QuadBits(word);
        part.template PutHighCodes<0>(L::LoadBytes(reinterpret_cast<const std::byte*>(words)));
      }
    } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
      ForConstants<4>([&](auto c) STOKER_INLINE_LAMBDA {
        Bytes quads[8];
        part.Load(kQs + 32 * c, quads);
        part.Load(kQs + 32 * c + 16, quads + 4);
        for (int v = 0; v < 4; ++v) {
          SwapFields<4>(quads[v], quads[v + 4]);
          part.template PutCodes<2 * c>(v, quads[v]);
          part.template PutCodes<2 * c + 1>(v, quads[v + 4]);
        }
      });
      if constexpr (kType == DType::kQ5_K) WriteHighBits(part, offsetof(Block, qh));
    } else if constexpr (kType == DType::kQ6_K) {
      ForConstants<4>([&](auto n) STOKER_INLINE_LAMBDA {
        constexpr int kHalf = n / 2;
        constexpr int kSixteen = n % 2;
        constexpr int kFirst = 8 * kHalf + kSixteen;  // span of s = 0; the next are two further
        ForConstants<2>([&](auto s) STOKER_INLINE_LAMBDA {
          Bytes quads[4];
          part.Load(offsetof(Block, ql) + 64 * kHalf + 32 * s + 16 * kSixteen, quads);
          for (int v = 0; v < 2; ++v) {
            SwapFields<4>(quads[v], quads[v + 2]);
            part.template PutCodes<kFirst + 2 * s>(v, quads[v]);
            part.template PutCodes<kFirst + 2 * s + 4>(v, quads[v + 2]);
          }
        });
        Bytes high[4];
        part.Load(offsetof(Block, qh) + 32 * kHalf + 16 * kSixteen, high);
        TransposeFields<2>(high);
        ForConstants<4>([&](auto s) STOKER_INLINE_LAMBDA {
          part.template PutHighCodes<kFirst + 2 * s>(high[s]);
        });
      });
    } else {
      static_assert(kType == DType::kQ2_K || kType == DType::kQ3_K);
      ForConstants<4>([&](auto n) STOKER_INLINE_LAMBDA {
        constexpr int kFirst = 8 * (n / 2) + n % 2;
        Bytes quads[4];
        part.Load(kQs + 16 * n, quads);
        TransposeFields<2>(quads);
        ForConstants<4>([&](auto s) STOKER_INLINE_LAMBDA {
          part.template PutCodes<kFirst + 2 * s>(0, quads[s]);
        });
      });
      if constexpr (kType == DType::kQ3_K) WriteHighBits(part, offsetof(Block, hmask));
    }
  }

  // A bit for every 32 columns in each of 32 bytes.
  static STOKER_INLINE void WriteHighBits(const Part& part, int64_t offset) {
    Bytes bits[8];
    part.Load(offset, bits);
    part.Load(offset + 16, bits + 4);
    TransposeFields<1>(bits);
    ForConstants<8>([&](auto b) STOKER_INLINE_LAMBDA {
      part.template PutHighCodes<b * 32 / kTile.span>(bits[b]);
    });
  }

  static STOKER_INLINE void WriteScales(const Part& part) {
    if constexpr (kType == DType::kQ2_K || kType == DType::kQ6_K) {
      Bytes scales[4];
      part.Load(offsetof(Block, scales), scales);
      ForConstants<4>([&](auto g) STOKER_INLINE_LAMBDA { PutFour<4 * g>(part, scales[g]); });
    } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
      // See UnpackScaleMin. The first four bytes are d and dmin.
      static_assert(offsetof(Block, scales) == 4);
      Bytes head[4];
      part.Load(0, head);
      const Bytes a = head[1], b = head[2], c = head[3];
      PutScalesAndMinima<0>(part, L::template Bits<0>(a, 63), L::template Bits<0>(b, 63));
      PutScalesAndMinima<4>(part, L::template OrBits<2>(L::template Bits<0>(c, 15), a, 0x30),
                            L::template OrBits<2>(L::template Bits<4>(c, 15), b, 0x30));
    } else if constexpr (kType == DType::kQ3_K) {
      // See UnpackQ3Scale. Copied, because sixteen bytes from there would end behind the block.
      alignas(16) std::byte copies[L::kRows][16];
      const std::byte* rows[L::kRows];
      for (int r = 0; r < L::kRows; ++r) {
        std::memcpy(copies[r], part.blocks[r] + offsetof(Block, scales), sizeof(Block::scales));
        std::memset(copies[r] + sizeof(Block::scales), 0, 4);
        rows[r] = copies[r];
      }
      Bytes packed[4];
      L::LoadQuads(rows, 0, packed);
      ForConstants<4>([&](auto g) STOKER_INLINE_LAMBDA {
        const Bytes low = L::ByteRows(L::template Bits<(g / 2) * 4>(packed[g % 2], 15));
        part.template PutScales<4 * g>(Join(L::template Row<0>(low), L::template Row<1>(low)));
        part.template PutScales<4 * g + 2>(Join(L::template Row<2>(low), L::template Row<3>(low)));
        const Bytes high = L::ByteRows(L::template Bits<2 * g>(packed[2], 3));
        typename L::Row8 top = L::template Row<0>(high);
        top = L::Or8(top, L::template Bits8<-2>(L::template Row<1>(high), 0x0c));
        top = L::Or8(top, L::template Bits8<-4>(L::template Row<2>(high), 0x30));
        top = L::Or8(top, L::template Bits8<-6>(L::template Row<3>(high), 0xc0));
        part.template PutHighScales<4 * g>(top);
      });
    } else if constexpr (kType == DType::kIQ4_XS) {
      // Both are packed as a panel's are.
      static_assert(offsetof(Block, scales_h) == 2 && offsetof(Block, scales_l) == 4);
      Bytes head[4];
      part.Load(0, head);
      const Bytes high = L::ByteRows(head[0]);
      const Bytes low = L::ByteRows(head[1]);
      ForConstants<2>([&](auto g) STOKER_INLINE_LAMBDA {
        part.template PutScales<4 * g>(L::template Row<2 * g>(low));
        part.template PutScales<4 * g + 2>(L::template Row<2 * g + 1>(low));
        part.template PutHighScales<4 * g>(L::template Row<2 + g>(high));
      });
    }
  }

  // The scales of spans kSpan .. kSpan + 3, which are the bytes of a vector's quads.
  template <int kSpan>
  static STOKER_INLINE void PutFour(const Part& part, Bytes quads) {
    const Bytes rows = L::ByteRows(quads);
    ForConstants<4>([&](auto i) STOKER_INLINE_LAMBDA {
      part.template PutScales<kSpan + i>(L::template Row<i>(rows));
    });
  }

  // Six bits of each for spans kSpan .. kSpan + 3.
  template <int kSpan>
  static STOKER_INLINE void PutScalesAndMinima(const Part& part, Bytes scales, Bytes minima) {
    PutFour<kSpan>(part, L::template OrBits<-4>(L::template Bits<0>(scales, 15), minima, 0xf0));
    const Bytes top =
        L::ByteRows(L::template OrBits<2>(L::template Bits<4>(scales, 3), minima, 0x0c));
    part.template PutHighScales<kSpan>(Join(L::template Row<0>(top), L::template Row<1>(top)));
    part.template PutHighScales<kSpan + 2>(Join(L::template Row<2>(top), L::template Row<3>(top)));
  }

  static STOKER_INLINE void WriteHead(const std::byte* const* blocks, std::byte* tile) {
    for (int r = 0; r < kPanelRows; ++r) {
      if constexpr (kTile.has_scale) {
        std::memcpy(tile + 2 * r, blocks[r] + offsetof(Block, d), 2);
      }
      if constexpr (kTile.has_minimum) {
        std::memcpy(tile + kHalfBytes + 2 * r, blocks[r] + MinimumOffset(), 2);
      }
    }
  }

  // See TypeKernels::repack.
  static void Repack(const WeightRows& w, int64_t cols, std::byte* panel) noexcept {
    static const Block kZero{};
    const std::byte* blocks[kPanelRows];
    int64_t step[kPanelRows];
    for (int r = 0; r < kPanelRows; ++r) {
      const bool exists = r < w.n_rows;
      blocks[r] = exists ? w.data + r * w.row_bytes : reinterpret_cast<const std::byte*>(&kZero);
      step[r] = exists ? static_cast<int64_t>(sizeof(Block)) : 0;
    }
    for (int64_t t = 0; t < cols / kTile.columns; ++t, panel += kTile.bytes()) {
      WriteHead(blocks, panel);
      for (int part = 0; part < kPanelRows / L::kRows; ++part) {
        const Part rows{blocks + part * L::kRows, panel, part};
        WriteScales(rows);
        WriteCodes(rows);
      }
      for (int r = 0; r < kPanelRows; ++r) blocks[r] += step[r];
    }
  }

 private:
  static constexpr bool kLowNibblesFirst = kType == DType::kQ4_0 || kType == DType::kQ4_1 ||
                                           kType == DType::kQ5_0 || kType == DType::kQ5_1 ||
                                           kType == DType::kIQ4_NL || kType == DType::kIQ4_XS;

  static constexpr int64_t QuantOffset() {
    if constexpr (kType == DType::kQ6_K) {
      return offsetof(Block, ql);
    } else {
      return offsetof(Block, qs);
    }
  }
  static constexpr int64_t MinimumOffset() {
    if constexpr (kTile.columns == 32) {
      return offsetof(Block, m);
    } else {
      return offsetof(Block, dmin);
    }
  }
};

template <typename L, DType... kTypes>
void AddPanelRepack(KernelTable* table) {
  ((table->For(kTypes).repack = PanelRepackBody<L, kTypes>::Repack), ...);
}

}  // namespace stoker
