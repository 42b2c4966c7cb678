#pragma once

// A borrowed view of one tensor's bytes in memory: type, shape, address. Whoever hands it out
// (WeightStore, ExpertHandle) says how long the bytes live. A plain value, freely copied.

#include <array>
#include <cstddef>
#include <cstdint>

#include "mmap/dtype.h"

namespace stoker {

inline constexpr int kMaxDims = 4;

// How the rows of a matrix in memory lie: as in the file, or re-laid for the kernels in whole
// groups of sixteen (runtime/kernels/panel_layout.h; rows behind the last whole group stay as in
// the file). Both take the same bytes.
enum class WeightLayout : uint8_t { kRows, kPanels };

// Rows of a matrix from `first` on, up to the next piece.
struct RowPiece {
  int64_t first = 0;
  const std::byte* data = nullptr;
};

struct TensorView {
  DType type = DType::kF32;
  // Row-major, slowest dimension first ([out, in] for a matrix, as in the checkpoint); GGUF's ne
  // order is reversed on reading. Unused trailing entries are 1.
  std::array<int64_t, kMaxDims> shape = {1, 1, 1, 1};
  int n_dims = 0;
  const std::byte* data = nullptr;  // of row 0
  uint64_t bytes = 0;               // of all rows
  WeightLayout layout = WeightLayout::kRows;
  // The bytes belong to whoever handed out the view and nobody reads them otherwise, so a product
  // may re-lay them in place.
  bool may_relay = false;
  // Where a matrix lies in pieces, one per node, ascending from row 0; none: contiguous at `data`.
  const RowPiece* pieces = nullptr;
  int n_pieces = 0;
  // Rows that belong together, such as those of one head: a matrix is cut at multiples only.
  int64_t row_unit = 1;
  // Of kInt8Row, null for others: [rows], what the codes of each row are multiplied by.
  const float* row_scales = nullptr;

  // Matrix notation: y = W x with W [rows, cols]. For a vector rows = 1, cols = length.
  int64_t rows() const { return n_dims >= 2 ? shape[n_dims - 2] : 1; }
  int64_t cols() const { return n_dims >= 1 ? shape[n_dims - 1] : 1; }
  uint64_t row_bytes() const {
    const DTypeInfo& info = Info(type);
    return static_cast<uint64_t>(cols()) / info.block_elements * info.block_bytes;
  }
  // Rows are contiguous up to the end of r's piece: a node's rows always are.
  const std::byte* row(int64_t r) const {
    int piece = n_pieces - 1;
    while (piece > 0 && pieces[piece].first > r) --piece;
    if (piece < 0) return data + static_cast<uint64_t>(r) * row_bytes();
    return pieces[piece].data + static_cast<uint64_t>(r - pieces[piece].first) * row_bytes();
  }
  // Rows [begin, end) of a contiguous matrix.
  TensorView Rows(int64_t begin, int64_t end) const {
    TensorView part = *this;
    part.data = row(begin);
    part.shape[n_dims - 2] = end - begin;
    part.bytes = static_cast<uint64_t>(end - begin) * row_bytes();
    if (row_scales != nullptr) part.row_scales = row_scales + begin;
    return part;
  }
};

}  // namespace stoker
