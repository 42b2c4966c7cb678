#pragma once

// Products through oneDNN: of a few rows of F32 weights in the file's own layout (a router's), and
// of blocks of weights in the layouts its kernels read without packing (wide_products.h).
// Each worker runs primitives on its own range of weight rows, so threads, pinning and placement
// stay the team's. Primitives are compiled once per shape and kept per worker. Bits may differ
// between numbers of tokens (other kernels for other shapes), within f32 rounding. The only room of
// oneDNN's matmul headers is this file's source.

#include <cstdint>
#include <memory>
#include <string>

#include "numa/cpu_features.h"
#include "runtime/kernels/activation_rows.h"

namespace stoker {

// Columns of which MultiplyWide's weights have whole blocks.
inline constexpr int64_t kWideStep = 32;

class OneDnn {
 public:
  // Caps oneDNN's instruction sets at `level` (kAvx2 or kAvx512): the first object of the process
  // decides. Multiplies small matrices of every kind and compares with exact results: a type that
  // is wrong on this machine is named in the log and not offered. Throws std::runtime_error when
  // oneDNN cannot make its CPU engine.
  OneDnn(int n_workers, IsaLevel level);
  ~OneDnn();
  OneDnn(const OneDnn&) = delete;
  OneDnn& operator=(const OneDnn&) = delete;

  // What is right on this machine and has a kernel of the library's own for its instruction set:
  // Multiply (on AVX2 there is none), and either MultiplyWide.
  bool has_rows() const { return has_rows_; }
  bool has_wide_f32() const { return has_wide_f32_; }
  bool has_wide_bf16() const { return has_wide_bf16_; }

  // y[t * y_stride + r] = sum_c w[r * k + c] x[t, c] for r in [0, n_rows), on the calling worker.
  // n_rows > 1: of a single row oneDNN 3.7.2 puts the results side by side, whatever y_stride.
  // All abort when oneDNN refuses the shape: matmul takes every one.
  void Multiply(int worker, const float* w, int64_t n_rows, const F32Rows& x, float* y,
                int64_t y_stride) noexcept;

  // y[t * kWideRows + r] = sum_c w[c * kWideRows + r] x[t, c], or += where `add`. Weights of zero
  // up to the next multiple of kWideStep columns.
  void MultiplyWide(int worker, const float* w, const F32Rows& x, bool add, float* y) noexcept;
  // The same of bf16 weights in pairs of columns, w[(c / 2 * kWideRows + r) * 2 + c % 2]; sums in
  // f32.
  void MultiplyWide(int worker, const uint16_t* w, const Bf16Rows& x, bool add, float* y) noexcept;

  // Whether products of bf16 weights may be offered at this level, before any object is there.
  static bool MayHaveWideBf16(IsaLevel level) {
    return level == IsaLevel::kAvx512 && CpuFeatures::Detect().avx512_bf16;
  }

  static std::string Version();  // "3.7.2"

 private:
  class PerWorker;
  std::unique_ptr<PerWorker[]> workers_;
  bool has_rows_ = false;
  bool has_wide_f32_ = false;
  bool has_wide_bf16_ = false;
};

}  // namespace stoker
