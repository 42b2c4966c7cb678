#pragma once

// The panel layout: sixteen weight rows interleaved so that the lanes of a vector are rows. It
// holds exactly the bits of the file's blocks in exactly their number of bytes, so sixteen rows can
// be re-laid in place and every size and offset of the file stays true. A product then needs no
// shuffles and no horizontal sums: four activation codes of a token, broadcast, are multiplied with
// four columns of sixteen rows at once. Constants only; PanelRepack (lanes/panel_repack_body.h)
// writes it, lanes/panel_formats.h reads it.
//
// A panel is a sequence of tiles, one for every block of columns (32 or 256, as the format's
// blocks): a head, then a record for every four spans, a span being the 16 or 32 columns that share
// a scale. A record is the scales of its spans and then their codes, so that a kernel reads a panel
// strictly forwards, which is what the hardware prefetchers follow. A quad is four neighbouring
// columns of 16 rows: 64 codes, byte 4 r + c for row r and column c. The codes of a span's quads
// are packed into vectors of 64 bytes, low bits first, then those above them:
//
//   4 bits   byte = quad v, low nibble; quad v + n / 2, high nibble (n quads in a span)
//   2 bits   byte = four quads, quad q in bits 2 q
//   1 bit    byte = eight quads, quad q in bit q (Q3_K: four quads of two spans)
//   8 bits   a quad as it is
//
// The head is d of the sixteen rows as f16, then m or dmin where the format has one; none for
// INT8. Scales are
// rows of sixteen bytes, one for each weight row; spans are counted within the record:
//   Q2_K    [4 spans] scale | minimum << 4
//   Q6_K    [4 spans] scale
//   Q4_K,   [4 spans] low nibbles: scale | minimum << 4, then [2 pairs] top bits: scale |
//   Q5_K      minimum << 2 of the even span, << 4 of the odd one
//   Q3_K,   [2 pairs] low nibbles: even span | odd span << 4, then one row with the top two bits of
//   IQ4_XS    span s in bits 2 s
//
// Of F32, F16 and BF16 a panel is its columns one behind the other, sixteen values each; BF16 in
// pairs of columns, [16 rows][2 columns], as matrix units take it, with a last odd column by
// itself.

#include <cstdint>

#include "mmap/block_formats.h"
#include "mmap/dtype.h"

namespace stoker {

inline constexpr int64_t kPanelRows = 16;

inline constexpr int64_t kRowBytes = kPanelRows;       // one byte for each of the rows
inline constexpr int64_t kHalfBytes = 2 * kPanelRows;  // one f16 for each
inline constexpr int64_t kQuadBytes = 4 * kPanelRows;

// Where the parts of a tile are, in bytes. To be asked when compiling: kernels must not compute
// this.
struct PanelTile {
  int columns;  // of a tile
  int span;     // columns that share a scale
  int low_bits;
  int high_bits;         // 0: none
  bool has_minimum;      // m or dmin, at Minimum()
  int scale_spans;       // spans that share a row of scales; 0: the format has none
  int high_scale_spans;  // spans that share a row of top bits; 0: none
  bool has_scale = true;  // d

  constexpr int quads() const { return span / 4; }
  constexpr int spans() const { return columns / span; }
  constexpr int record_spans() const { return spans() < 4 ? spans() : 4; }
  constexpr int64_t low_bytes() const { return span * kPanelRows * low_bits / 8; }
  // Spans whose high bits share a vector.
  constexpr int sharing() const { return high_bits > 0 ? 32 / (quads() * high_bits * 4) : 1; }
  constexpr int64_t shared_bytes() const {
    return sharing() * low_bytes() + (high_bits > 0 ? kQuadBytes : 0);
  }
  constexpr int64_t scale_bytes() const {
    return scale_spans > 0 ? record_spans() / scale_spans * kRowBytes : 0;
  }
  constexpr int64_t high_scale_bytes() const {
    return high_scale_spans > 0 ? record_spans() / high_scale_spans * kRowBytes : 0;
  }
  constexpr int64_t record_bytes() const {
    return scale_bytes() + high_scale_bytes() + record_spans() / sharing() * shared_bytes();
  }
  constexpr int records() const { return spans() / record_spans(); }
  constexpr int64_t head_bytes() const {
    return (has_minimum ? 2 : has_scale ? 1 : 0) * kHalfBytes;
  }
  constexpr int64_t bytes() const { return head_bytes() + records() * record_bytes(); }

  // From the beginning of a record, for its span s.
  constexpr int64_t Scale(int s) const { return s / scale_spans * kRowBytes; }
  constexpr int64_t HighScale(int s) const {
    return scale_bytes() + s / high_scale_spans * kRowBytes;
  }
  constexpr int64_t Codes(int s) const { return SharedCodes(s) + s % sharing() * low_bytes(); }
  constexpr int64_t HighCodes(int s) const { return SharedCodes(s) + sharing() * low_bytes(); }

 private:
  constexpr int64_t SharedCodes(int s) const {
    return scale_bytes() + high_scale_bytes() + s / sharing() * shared_bytes();
  }
};

template <DType kType>
constexpr PanelTile PanelTileOf() {
  switch (kType) {
    case DType::kQ4_0:
    case DType::kIQ4_NL:
      return {32, 32, 4, 0, false, 0, 0};
    case DType::kQ4_1:
      return {32, 32, 4, 0, true, 0, 0};
    case DType::kQ5_0:
      return {32, 32, 4, 1, false, 0, 0};
    case DType::kQ5_1:
      return {32, 32, 4, 1, true, 0, 0};
    case DType::kQ8_0:
      return {32, 32, 8, 0, false, 0, 0};
    case DType::kInt8Row:
      return {32, 32, 8, 0, false, 0, 0, false};
    case DType::kQ2_K:
      return {256, 16, 2, 0, true, 1, 0};
    case DType::kQ3_K:
      return {256, 16, 2, 1, false, 2, 4};
    case DType::kQ4_K:
      return {256, 32, 4, 0, true, 1, 2};
    case DType::kQ5_K:
      return {256, 32, 4, 1, true, 1, 2};
    case DType::kQ6_K:
      return {256, 16, 4, 2, false, 1, 0};
    case DType::kIQ4_XS:
      return {256, 32, 4, 0, false, 2, 4};
    default:
      return {32, 32, 0, 0, false, 0, 0};
  }
}

// Bytes of a panel of `cols` columns: those of sixteen rows of the file.
template <DType kType>
constexpr int64_t PanelBytes(int64_t cols) {
  return cols / PanelTileOf<kType>().columns * PanelTileOf<kType>().bytes();
}

// F32, F16 and BF16: where an element of a panel is, in bytes.
template <DType kType>
constexpr int64_t PlainPanelOffset(int64_t cols, int64_t column, int64_t row) {
  if constexpr (kType == DType::kF32) return 4 * (column * kPanelRows + row);
  const bool paired = kType == DType::kBF16 && (column | 1) < cols;
  return 2 * (paired ? column / 2 * 2 * kPanelRows + 2 * row + column % 2
                     : column * kPanelRows + row);
}

static_assert(PanelTileOf<DType::kQ4_0>().bytes() == kPanelRows * sizeof(BlockQ4_0));
static_assert(PanelTileOf<DType::kQ4_1>().bytes() == kPanelRows * sizeof(BlockQ4_1));
static_assert(PanelTileOf<DType::kQ5_0>().bytes() == kPanelRows * sizeof(BlockQ5_0));
static_assert(PanelTileOf<DType::kQ5_1>().bytes() == kPanelRows * sizeof(BlockQ5_1));
static_assert(PanelTileOf<DType::kQ8_0>().bytes() == kPanelRows * sizeof(BlockQ8_0));
static_assert(PanelTileOf<DType::kInt8Row>().bytes() == kPanelRows * sizeof(BlockInt8Row));
static_assert(PanelTileOf<DType::kIQ4_NL>().bytes() == kPanelRows * sizeof(BlockIQ4_NL));
static_assert(PanelTileOf<DType::kQ2_K>().bytes() == kPanelRows * sizeof(BlockQ2_K));
static_assert(PanelTileOf<DType::kQ3_K>().bytes() == kPanelRows * sizeof(BlockQ3_K));
static_assert(PanelTileOf<DType::kQ4_K>().bytes() == kPanelRows * sizeof(BlockQ4_K));
static_assert(PanelTileOf<DType::kQ5_K>().bytes() == kPanelRows * sizeof(BlockQ5_K));
static_assert(PanelTileOf<DType::kQ6_K>().bytes() == kPanelRows * sizeof(BlockQ6_K));
static_assert(PanelTileOf<DType::kIQ4_XS>().bytes() == kPanelRows * sizeof(BlockIQ4_XS));

}  // namespace stoker
