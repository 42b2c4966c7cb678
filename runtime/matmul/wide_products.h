#pragma once

// Many tokens on F32, F16 and BF16 weights, activations in full precision, through oneDNN:
// sixty-four rows at a time are taken out of their panels to the blocked layout that it multiplies
// without packing anything itself. In f32, or, where the processor has a matrix unit for bf16, BF16
// weights as they are, times activations that are the sum of three bf16.
//
// Sums are oneDNN's within a block of columns whose length follows from the row's alone, and are
// added in the order of the blocks. Two numbers of tokens may differ by f32 rounding, but any two
// cuts of the rows give the same bits. Workers use it at the same time, each its own scratch.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "numa/node_buffer.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/matmul/onednn.h"

namespace stoker {

class WideProducts {
 public:
  // onednn outlives this. Throws std::system_error when the workers' scratch (under 1 MiB each)
  // cannot be had.
  WideProducts(OneDnn* onednn, int n_workers);

  static int64_t ScratchBytes();  // of one worker

  // As TypeKernels::dot_plain. row_bytes: of a weight row.
  void Multiply(int worker, const TypeKernels& kernels, const std::byte* panels, int64_t row_bytes,
                int64_t n_rows, const F32Rows& x, float* y, int64_t y_stride) noexcept;

  // The same of BF16 weights, x in parts: kBf16Parts rows for one of y.
  void MultiplyParts(int worker, const std::byte* panels, int64_t row_bytes, int64_t n_rows,
                     const Bf16Rows& x, float* y, int64_t y_stride) noexcept;

 private:
  struct Scratch;
  // Products of n_rows rows in blocks of weights: unpack(row, first column, n columns, block) makes
  // a block, store(first row of x, m of them, row, n rows, products) takes what it gave.
  template <typename Element, typename Rows, typename Unpack, typename Store>
  void MultiplyBlocks(int worker, int64_t n_rows, const Rows& x, Unpack&& unpack, Store&& store);
  Scratch* ScratchOf(int worker) const {
    return scratch_[static_cast<size_t>(worker)].as<Scratch>();
  }

  OneDnn* onednn_;
  std::vector<NodeBuffer> scratch_;  // one per worker, first touched by it
};

}  // namespace stoker
