#include "runtime/matmul/tuning.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "mmap/kept_values.h"
#include "numa/cpu_features.h"
#include "numa/node_buffer.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/matmul/activations.h"

namespace stoker {
namespace {

// Weights come from memory, not from the cache, when experts take turns.
constexpr int64_t kRows = 1024;
constexpr int kRepetitions = 3;
// In this order; the first from which unpacking first stays ahead is the choice.
constexpr std::array<int64_t, 8> kTokens = {4,  8,  12, 16,
                                            24, 32, 48, MatmulTuning::kMostGemmTokens};

// Counts up when kernels change so much that old measurements mislead.
constexpr int kFormat = 3;

template <typename F>
double BestSeconds(F&& run) {
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

KeptValues ValuesOf(const KernelTable& kernels, int64_t cols,
                    const std::filesystem::path& directory) {
  const std::string level(IsaLevelName(kernels.level));
  const std::string row = std::to_string(cols);
  return {directory.empty() ? directory : directory / ("kernels-" + level + "-" + row + ".txt"),
          "stoker kernels " + std::to_string(kFormat) + "; " + CpuFeatures::Detect().model_name +
              "; " + level + "; rows of " + row};
}

}  // namespace

int64_t MeasureGemmTokens(const KernelTable& kernels, DType type, int64_t cols) {
  const TypeKernels& both = kernels.For(type);
  if (both.dot_panels == nullptr || both.gemm_panels == nullptr) {
    return MatmulTuning::kDefaultGemmTokens;
  }
  const int64_t blocks = cols / Info(type).block_elements;
  const auto panel_bytes =
      static_cast<size_t>(blocks) * static_cast<size_t>(Info(type).block_bytes) * kRows;
  const auto gemm_bytes = static_cast<size_t>(kernels.gemm_scratch_bytes);
  // Zeros take as long as any weights.
  NodeBuffer panels = NodeBuffer::Allocate(panel_bytes, "calibration");
  NodeBuffer scratch = NodeBuffer::Allocate(gemm_bytes, "calibration");
  std::memset(panels.data(), 0, panel_bytes);
  std::memset(scratch.data(), 0, gemm_bytes);

  constexpr int64_t kMost = MatmulTuning::kMostGemmTokens;
  std::vector<float> x(static_cast<size_t>(kMost * cols), 1.0f);
  std::vector<float> y(static_cast<size_t>(kMost * kRows));
  Activations activations(kMost, cols, kernels.level);
  activations.Prepare(Worker{}, x.data(), kMost, cols, cols, kActQ8);

  int64_t choice = kMost;
  for (const int64_t m : kTokens) {
    const Q8Rows rows = SliceRows(activations.q8_rows(), 0, m);
    const double dot =
        BestSeconds([&] { both.dot_panels(panels.data(), kRows, rows, y.data(), kRows); });
    const double gemm = BestSeconds(
        [&] { both.gemm_panels(panels.data(), kRows, rows, scratch.data(), y.data(), kRows); });
    if (gemm >= dot) {
      choice = kMost;
    } else {
      choice = std::min(choice, m);
    }
  }
  return choice;
}

Calibration Calibrate(const KernelTable& kernels, std::span<const DType> types, int64_t cols,
                      const std::filesystem::path& directory) {
  const auto start = std::chrono::steady_clock::now();
  KeptValues kept = ValuesOf(kernels, cols, directory);
  Calibration result;
  bool measured = false;
  for (const DType type : types) {
    if (kernels.For(type).gemm_panels == nullptr) continue;
    const std::string_view name = Info(type).name;
    std::optional<int64_t> tokens = kept.Find(name, 2, MatmulTuning::kMostGemmTokens);
    if (!tokens) {
      tokens = MeasureGemmTokens(kernels, type, cols);
      kept.Set(name, *tokens);
      measured = true;
    }
    result.tuning.set_gemm_tokens(type, *tokens);
  }
  const auto took = std::chrono::steady_clock::now() - start;
  result.source =
      measured ? "measured in " +
                     std::to_string(
                         std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
                     " ms"
               : kept.path().string();
  kept.Keep();
  return result;
}

}  // namespace stoker
