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

struct TensorView {
  DType type = DType::kF32;
  // Row-major, slowest dimension first ([out, in] for a matrix, as in the checkpoint); GGUF's ne
  // order is reversed on reading. Unused trailing entries are 1.
  std::array<int64_t, kMaxDims> shape = {1, 1, 1, 1};
  int n_dims = 0;
  const std::byte* data = nullptr;
  uint64_t bytes = 0;
  WeightLayout layout = WeightLayout::kRows;
  // The bytes belong to whoever handed out the view and nobody reads them otherwise, so a product
  // may re-lay them in place.
  bool may_relay = false;

  // Matrix notation: y = W x with W [rows, cols]. For a vector rows = 1, cols = length.
  int64_t rows() const { return n_dims >= 2 ? shape[n_dims - 2] : 1; }
  int64_t cols() const { return n_dims >= 1 ? shape[n_dims - 1] : 1; }
  uint64_t row_bytes() const {
    const DTypeInfo& info = Info(type);
    return static_cast<uint64_t>(cols()) / info.block_elements * info.block_bytes;
  }
  const std::byte* row(int64_t r) const { return data + static_cast<uint64_t>(r) * row_bytes(); }
};

}  // namespace stoker
