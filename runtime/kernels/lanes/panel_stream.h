#pragma once

// What the bodies for few tokens have in common: how far ahead of its use a panel is asked for, and
// how the totals of its rows are stored.

#include <algorithm>
#include <cstdint>

#include "runtime/kernels/inline.h"
#include "runtime/kernels/panel_layout.h"

namespace stoker {

// Bytes ahead of their use (measured on Zen 4, both vector widths). Where a line is used up quickly
// the hardware's own prefetcher does best, and only wants to be shown the way into the next page:
// a line of every kSparseEvery bytes, into the second-level cache. Where there is work between two
// lines it falls behind, and every line is asked for, into the first-level cache: into the second
// it took twice as long.
inline constexpr int64_t kDenseAhead = 8192;
inline constexpr int64_t kSparseAhead = 4096;
inline constexpr int64_t kSparseEvery = 256;

// y[t * y_stride + r] = the total of row r of the first n_rows, for kT tokens; a vector holds
// L::kRows of a panel's rows.
template <typename L, int kParts, int kT>
STOKER_INLINE void StorePanel(const typename L::F32 (&total)[kParts][kT], int64_t n_rows, float* y,
                              int64_t y_stride) {
  for (int part = 0; part < kParts; ++part) {
    const int64_t rows = std::min<int64_t>(L::kRows, n_rows - part * L::kRows);
    if (rows <= 0) break;
    for (int t = 0; t < kT; ++t) {
      L::StoreFirst(y + t * y_stride + part * L::kRows, total[part][t], rows);
    }
  }
}

}  // namespace stoker
