#pragma once

// F32 products through oneDNN: y = W x^T in the file's own row-major layout, no reorder (measured:
// plain layouts reach the read bandwidth in f32). Each worker runs primitives on its own range of
// weight rows, so threads, pinning and placement stay the team's. Primitives are compiled once per
// shape and kept per worker. Bits may differ between numbers of tokens (other kernels for other
// shapes), within f32 rounding. The only room of oneDNN's headers is this file's source.

#include <cstdint>
#include <memory>
#include <string>

#include "numa/cpu_features.h"
#include "runtime/kernels/activation_rows.h"

namespace stoker {

class OneDnnF32 {
 public:
  // Caps oneDNN's instruction sets at `level` (kAvx2 or kAvx512): the first object of the process
  // decides. Throws std::runtime_error when oneDNN cannot make its CPU engine.
  OneDnnF32(int n_workers, IsaLevel level);
  ~OneDnnF32();
  OneDnnF32(const OneDnnF32&) = delete;
  OneDnnF32& operator=(const OneDnnF32&) = delete;

  // y[t * y_stride + r] = sum_c w[r * k + c] x[t, c] for r in [0, n_rows), on the calling worker.
  // Aborts when oneDNN refuses the shape: f32 matmul takes every one.
  void Multiply(int worker, const float* w, int64_t n_rows, const F32Rows& x, float* y,
                int64_t y_stride) noexcept;

  static std::string Version();  // "3.7.2"

 private:
  class PerWorker;
  std::unique_ptr<PerWorker[]> workers_;
};

}  // namespace stoker
