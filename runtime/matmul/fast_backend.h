#pragma once

// The matmul that runs models: our own kernels over panels of weight rows, and oneDNN for the
// router and for more than a few tokens on F32, F16 and BF16 weights, chosen per weight type and
// number of tokens. Each worker computes a contiguous range of weight rows. Our kernels' results
// depend on their row and token only, so any number of workers and of tokens gives the same bits.
// With oneDNN two numbers of tokens may differ by f32 rounding.

#include <cstdint>
#include <memory>

#include "numa/cpu_features.h"
#include "runtime/matmul/matmul_backend.h"
#include "runtime/matmul/tuning.h"

namespace stoker {

// n_workers: the size of the team that will call Multiply. `level` must be one this machine has.
// `residual`: eight- and six-bit weights also multiply what rounding took from the activations;
// worth it in a model that mostly has such weights, lost in one whose other weights are coarser.
// Throws std::system_error when the workers' scratch (under 5 MiB each) cannot be had.
std::unique_ptr<MatmulBackend> MakeFastBackend(Precision precision, int n_workers,
                                               IsaLevel level = ActiveIsaLevel(),
                                               bool residual = true,
                                               const MatmulTuning& tuning = {});

// Rows shorter than this stay with our own kernels: a product takes less time than its first use
// takes oneDNN to compile.
inline constexpr int64_t kOneDnnColumns = 1024;

// The longest rows of quantised weights that are multiplied as panels (123,361 columns of Q8_0);
// F32, F16 and BF16 stay rows where they are longer. Precision::kExact and the scalar level know no
// limit.
inline constexpr int64_t kMostPanelRowBytes = 128 * 1024;

// Tokens from which products of F32, F16 and BF16 weights go through oneDNN; MatmulTuning::kNever
// in a build without it.
int64_t OneDnnTokens(IsaLevel level, DType type, const MatmulTuning& tuning);

// Whether products of BF16 weights may want activations in parts (kActBf16Parts).
bool MaySplitBf16(IsaLevel level);

// Memory that the workers' scratch may take, at most.
uint64_t FastBackendBytes(IsaLevel level, int n_workers);

// Whether the rounding of eight-bit activations is the larger error with weights of this type, so
// that residual rows (activations.h) are worth their time.
bool GainsFromResidual(DType type);

// How a product of m tokens is computed; for verbose output and benches.
enum class Route {
  kOneDnnF32,      // oneDNN matmul, few rows of F32 weights, as a router has
  kOneDnnBf16,     // oneDNN matmul, blocks of BF16 weights, activations as the sum of three bf16
  kOneDnnWidened,  // oneDNN matmul, blocks of F32, F16 or BF16 weights widened to f32
  kDotPlain,       // f32 activations, panels of F32, F16 or BF16 weights widened in registers
  kDotF32,         // dequantised to f32, f32 activations
  kDotQ8,          // integer activations, rows unpacked in registers for a few tokens
  kGemmQ8,         // integer activations, panels of weights unpacked once for all tokens
  kScaledQ8,       // the same through oneDNN's micro-kernel, weights times their scales in int8
};

// The route the fast backend takes where oneDNN can do on this machine what is asked of it and the
// matrix is not small. The one place to change when another implementation is measured to be faster
// for a type, number of tokens or level.
Route ChooseRoute(IsaLevel level, Precision precision, DType type, int64_t m,
                  const MatmulTuning& tuning = {});

}  // namespace stoker
