#pragma once

// Many tokens on integer activations through the processor's matrix unit: weights of super-block
// formats, code times scale in int8 (kernels/scaled_group.h), a group of 256 columns at a time,
// multiplied by oneDNN's micro-kernel (brgemm, u8 x s8 -> s32), which runs on AMX tiles, and on
// VNNI where there are none. What remains per group and result is one multiply-add, where vector
// kernels have one per span. Whether it is faster than they are is measured (tuning.h): with VNNI
// where the weights take one plane (Q2_K, Q3_K: 1.1 and 1.3 times on Zen 4), not where they take
// two (0.6).
//
// Workers use it at the same time, each its own scratch; they hold no tile state between calls.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "numa/node_buffer.h"
#include "runtime/kernels/kernel_table.h"

namespace stoker {

class ScaledProducts {
 public:
  // Null where there is no micro-kernel for this processor, or one that fails a small product with
  // an exact result (named in the log). Throws std::system_error when the workers' scratch (under
  // 1 MiB each) cannot be had.
  static std::unique_ptr<ScaledProducts> Make(int n_workers);
  ~ScaledProducts();

  static int64_t ScratchBytes();  // of one worker, but for what the micro-kernel itself wants (KB)

  // As TypeKernels::gemm_panels, of a type whose `planes` is not 0. row_bytes: of a weight row.
  void Multiply(int worker, const TypeKernels& kernels, const std::byte* panels, int64_t row_bytes,
                int64_t n_rows, const Q8Rows& x, float* y, int64_t y_stride) noexcept;

 private:
  class MicroKernels;
  struct Scratch;

  explicit ScaledProducts(int n_workers);
  NodeBuffer AllocateScratch() const;
  bool Test();
  // At most as many rows and tokens as Scratch holds.
  void MultiplyBlock(Scratch* scratch, const TypeKernels& kernels, const std::byte* panels,
                     int64_t row_bytes, int64_t n_rows, const Q8Rows& x, float* y,
                     int64_t y_stride);
  Scratch* ScratchOf(int worker) const {
    return scratch_[static_cast<size_t>(worker)].as<Scratch>();
  }

  std::unique_ptr<MicroKernels> micro_kernels_;
  std::vector<NodeBuffer> scratch_;  // one per worker, first touched by it
};

}  // namespace stoker
