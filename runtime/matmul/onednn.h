#pragma once

// Products through oneDNN, weights in the file's own row-major layout. Plain layouts lose little
// where this is used: f32 reaches the read bandwidth, and for many tokens the library packs as it
// goes (measured on Zen 4, bf16 6144 x 1024, M = 512: 213 GFLOP/s a core plain, 223 pre-blocked).
// Each worker runs primitives on its own range of weight rows, so threads, pinning and placement
// stay the team's.
// Primitives are compiled once per shape and kept per worker. Bits may differ between numbers of
// tokens (other kernels for other shapes), within f32 rounding. The only room of oneDNN's headers
// is this file's source.

#include <cstdint>
#include <memory>
#include <string>

#include "numa/cpu_features.h"
#include "runtime/kernels/activation_rows.h"

namespace stoker {

class OneDnn {
 public:
  // Caps oneDNN's instruction sets at `level` (kAvx2 or kAvx512): the first object of the process
  // decides. Multiplies small matrices of either type and compares with exact results: a type that
  // is wrong on this machine is named in the log and not offered. Throws std::runtime_error when
  // oneDNN cannot make its CPU engine.
  OneDnn(int n_workers, IsaLevel level);
  ~OneDnn();
  OneDnn(const OneDnn&) = delete;
  OneDnn& operator=(const OneDnn&) = delete;

  bool has_f32() const { return has_f32_; }
  // Only where the processor multiplies bf16: elsewhere oneDNN would convert, at the cost of time.
  bool has_bf16() const { return has_bf16_; }

  // y[t * y_stride + r] = sum_c w[r * k + c] x[t, c] for r in [0, n_rows), on the calling worker.
  // Aborts when oneDNN refuses the shape: matmul takes every one.
  void Multiply(int worker, const float* w, int64_t n_rows, const F32Rows& x, float* y,
                int64_t y_stride) noexcept;
  // The same of bf16 weights and m rows of k bf16 activations one behind the other, sums in f32.
  void Multiply(int worker, const uint16_t* w, int64_t n_rows, const uint16_t* x, int64_t m,
                int64_t k, float* y, int64_t y_stride) noexcept;

  static std::string Version();  // "3.7.2"

 private:
  class PerWorker;
  std::unique_ptr<PerWorker[]> workers_;
  bool has_f32_ = false;
  bool has_bf16_ = false;
};

}  // namespace stoker
