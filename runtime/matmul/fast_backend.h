#pragma once

// The matmul that runs models: our own kernels over panels of weight rows, and oneDNN for F32
// weights (the router), chosen per weight type and number of tokens. Each worker computes a
// contiguous range of weight rows. Our kernels' results depend on their row and token only, so any
// number of workers and of tokens gives the same bits. With oneDNN two numbers of tokens may differ
// by the order of f32 sums.

#include <cstdint>
#include <memory>

#include "numa/cpu_features.h"
#include "runtime/matmul/matmul_backend.h"
#include "runtime/matmul/tuning.h"

namespace stoker {

// n_workers: the size of the team that will call Multiply. `level` must be one this machine has.
// `residual`: eight- and six-bit weights also multiply what rounding took from the activations;
// worth it in a model that mostly has such weights, lost in one whose other weights are coarser.
// Throws std::system_error when the workers' scratch (under 4 MiB each) cannot be had.
std::unique_ptr<MatmulBackend> MakeFastBackend(Precision precision, int n_workers,
                                               IsaLevel level = ActiveIsaLevel(),
                                               bool residual = true,
                                               const MatmulTuning& tuning = {});

// How a product of m tokens is computed; for verbose output and benches.
enum class Route {
  kOneDnn,  // oneDNN matmul, F32 weights and activations
  kDotF32,  // dequantised to f32, f32 activations
  kDotQ8,   // integer activations, rows unpacked in registers for a few tokens
  kGemmQ8,  // integer activations, panels of weights unpacked once for all tokens
};

// The route the fast backend takes. The one place to change when another implementation is measured
// to be faster for a type, number of tokens or level.
Route ChooseRoute(IsaLevel level, Precision precision, DType type, int64_t m,
                  const MatmulTuning& tuning = {});

}  // namespace stoker
