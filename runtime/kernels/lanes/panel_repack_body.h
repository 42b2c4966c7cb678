#pragma once

// Sixteen rows of file blocks to one panel (panel_layout.h), in plain C++ loops that every
// instruction set's compiler flags turn into its own vectors: each folder includes this once and
// gets the same bytes. A permutation of bits, nothing is computed. Rows beyond n_rows become zeros.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
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

// `Isa` is a type of the including folder: it keeps the instantiations of different flags apart.
template <typename Isa, DType kType>
struct PanelRepackBody {
  using Block = typename BlockOf<kType>::Type;
  static constexpr PanelTile kTile = PanelTileOf<kType>();
  static constexpr int kQuadsOfTile = kTile.columns / 4;

  static constexpr bool kLowNibblesFirst = kType == DType::kQ4_0 || kType == DType::kQ4_1 ||
                                           kType == DType::kQ5_0 || kType == DType::kQ5_1 ||
                                           kType == DType::kIQ4_NL || kType == DType::kIQ4_XS;

  // Codes of one block in the order of the row, all their bits.
  static void RowCodes(const Block& block, uint8_t* codes) {
    if constexpr (kType == DType::kQ8_0) {
      std::memcpy(codes, block.qs, 32);
    } else if constexpr (kLowNibblesFirst) {
      for (int b = 0; b < kTile.columns / 32; ++b) {
        for (int j = 0; j < 16; ++j) {
          codes[32 * b + j] = block.qs[16 * b + j] & 15;
          codes[32 * b + 16 + j] = block.qs[16 * b + j] >> 4;
        }
      }
      if constexpr (kType == DType::kQ5_0 || kType == DType::kQ5_1) {
        for (int j = 0; j < 32; ++j) codes[j] |= ((block.qh[j / 8] >> (j % 8)) & 1) << 4;
      }
    } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
      for (int c = 0; c < 4; ++c) {
        for (int j = 0; j < 32; ++j) {
          codes[64 * c + j] = block.qs[32 * c + j] & 15;
          codes[64 * c + 32 + j] = block.qs[32 * c + j] >> 4;
        }
      }
      if constexpr (kType == DType::kQ5_K) {
        for (int b = 0; b < 8; ++b) {
          for (int j = 0; j < 32; ++j) codes[32 * b + j] |= ((block.qh[j] >> b) & 1) << 4;
        }
      }
    } else if constexpr (kType == DType::kQ6_K) {
      for (int h = 0; h < 2; ++h) {
        for (int s = 0; s < 4; ++s) {
          for (int j = 0; j < 32; ++j) {
            const uint8_t low = block.ql[64 * h + 32 * (s % 2) + j];
            codes[128 * h + 32 * s + j] = static_cast<uint8_t>(
                ((s < 2 ? low : low >> 4) & 15) | (((block.qh[32 * h + j] >> (2 * s)) & 3) << 4));
          }
        }
      }
    } else {
      static_assert(kType == DType::kQ2_K || kType == DType::kQ3_K);
      for (int h = 0; h < 2; ++h) {
        for (int s = 0; s < 4; ++s) {
          for (int j = 0; j < 32; ++j) {
            codes[128 * h + 32 * s + j] = (block.qs[32 * h + j] >> (2 * s)) & 3;
          }
        }
      }
      if constexpr (kType == DType::kQ3_K) {
        for (int b = 0; b < 8; ++b) {
          for (int j = 0; j < 32; ++j) codes[32 * b + j] |= ((block.hmask[j] >> b) & 1) << 2;
        }
      }
    }
  }

  // out[j] = bits [kFrom, kFrom + kBits) of in[i * step][j], side by side for i < kInputs.
  template <int kInputs, int kFrom, int kBits>
  static void Pack(const uint8_t (*in)[kQuadBytes], int step, std::byte* out) {
    constexpr unsigned kMask = (1u << kBits) - 1u;
    uint8_t packed[kQuadBytes];
    for (int j = 0; j < kQuadBytes; ++j) {
      unsigned byte = 0;
      for (int i = 0; i < kInputs; ++i) byte |= ((in[i * step][j] >> kFrom) & kMask) << (i * kBits);
      packed[j] = static_cast<uint8_t>(byte);
    }
    std::memcpy(out, packed, kQuadBytes);
  }

  static std::byte* Record(std::byte* tile, int s) {
    return tile + kTile.head_bytes() + s / kTile.record_spans() * kTile.record_bytes();
  }

  static void WriteCodes(const uint8_t (*quads)[kQuadBytes], std::byte* tile) {
    for (int s = 0; s < kTile.spans(); ++s) {
      const auto* span = quads + s * kTile.quads();
      const int in_record = s % kTile.record_spans();
      std::byte* record = Record(tile, s);
      std::byte* low = record + kTile.Codes(in_record);
      if constexpr (kTile.low_bits == 8) {
        std::memcpy(low, span, static_cast<size_t>(kTile.low_bytes()));
      } else if constexpr (kTile.low_bits == 4) {
        constexpr int kVectors = kTile.quads() / 2;
        for (int v = 0; v < kVectors; ++v) {
          Pack<2, 0, 4>(span + v, kVectors, low + v * kQuadBytes);
        }
      } else {
        Pack<4, 0, 2>(span, 1, low);
      }
      if constexpr (kTile.high_bits > 0) {
        if (s % kTile.sharing() == 0) {
          Pack<8 / kTile.high_bits, kTile.low_bits, kTile.high_bits>(
              span, 1, record + kTile.HighCodes(in_record));
        }
      }
    }
  }

  static void Put(std::byte* to, int value) { *to |= static_cast<std::byte>(value); }

  // The head and the scales of row r; `tile` was zeroed before.
  static void WriteScales(const Block& block, int r, std::byte* tile) {
    std::memcpy(tile + 2 * r, &block.d, 2);
    if constexpr (kType == DType::kQ4_1 || kType == DType::kQ5_1) {
      std::memcpy(tile + kHalfBytes + 2 * r, &block.m, 2);
    } else if constexpr (kTile.has_minimum) {
      std::memcpy(tile + kHalfBytes + 2 * r, &block.dmin, 2);
    }
    if constexpr (kTile.scale_spans == 0) return;
    for (int s = 0; s < kTile.spans(); ++s) {
      const int in_record = s % kTile.record_spans();
      std::byte* record = Record(tile, s);
      if constexpr (kType == DType::kQ2_K || kType == DType::kQ6_K) {
        record[kTile.Scale(in_record) + r] = static_cast<std::byte>(block.scales[s]);
      } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
        uint8_t scale;
        uint8_t minimum;
        UnpackScaleMin(block.scales, s, &scale, &minimum);
        record[kTile.Scale(in_record) + r] =
            static_cast<std::byte>((scale & 15) | (minimum & 15) << 4);
        Put(record + kTile.HighScale(in_record) + r, (scale >> 4 | minimum >> 4 << 2)
                                                         << (s % 2 * 4));
      } else if constexpr (kType == DType::kQ3_K || kType == DType::kIQ4_XS) {
        int scale;
        if constexpr (kType == DType::kQ3_K) {
          scale = UnpackQ3Scale(block.scales, s);
        } else {
          scale = UnpackIq4Scale(block, s);
        }
        Put(record + kTile.Scale(in_record) + r, (scale & 15) << (s % 2 * 4));
        Put(record + kTile.HighScale(in_record) + r, (scale >> 4) << (s % 4 * 2));
      }
    }
  }

  // See TypeKernels::repack.
  static void Repack(const WeightRows& w, int64_t cols, std::byte* panel) noexcept {
    static const Block kZero{};
    alignas(64) uint8_t codes[kPanelRows][kTile.columns];
    alignas(64) uint8_t quads[kQuadsOfTile][kQuadBytes];
    for (int64_t t = 0; t < cols / kTile.columns; ++t, panel += kTile.bytes()) {
      std::memset(panel, 0, static_cast<size_t>(kTile.bytes()));
      for (int r = 0; r < kPanelRows; ++r) {
        const Block& block =
            r < w.n_rows ? reinterpret_cast<const Block*>(w.data + r * w.row_bytes)[t] : kZero;
        RowCodes(block, codes[r]);
        WriteScales(block, r, panel);
      }
      for (int q = 0; q < kQuadsOfTile; ++q) {
        for (int r = 0; r < kPanelRows; ++r) std::memcpy(quads[q] + 4 * r, codes[r] + 4 * q, 4);
      }
      WriteCodes(quads, panel);
    }
  }
};

template <typename Isa, DType... kTypes>
void AddPanelRepack(KernelTable* table) {
  ((table->For(kTypes).repack = PanelRepackBody<Isa, kTypes>::Repack), ...);
}

}  // namespace stoker
