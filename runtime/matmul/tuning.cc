#include "runtime/matmul/tuning.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <vector>

#include "mmap/atomic_file.h"
#include "numa/cpu_features.h"
#include "numa/node_buffer.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/matmul/activations.h"

namespace stoker {
namespace {

// A block of rows as the backend gives them to the kernels.
constexpr int64_t kRows = 256;
constexpr int kRepetitions = 5;
// In this order; the first from which unpacking first stays ahead is the choice.
constexpr std::array<int64_t, 9> kTokens = {
    2, 3, 4, 5, 6, 8, 12, 16, MatmulTuning::kMostGemmTokens};

// Counts up when kernels change so much that old measurements mislead.
constexpr int kFormat = 1;

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

std::string KeyOf(const KernelTable& kernels, int64_t cols) {
  std::ostringstream key;
  key << "stoker tuning " << kFormat << "; " << CpuFeatures::Detect().model_name << "; "
      << IsaLevelName(kernels.level) << "; rows of " << cols;
  return key.str();
}

std::filesystem::path FileOf(const std::filesystem::path& directory, const KernelTable& kernels,
                             int64_t cols) {
  return directory / ("tuning-" + std::string(IsaLevelName(kernels.level)) + "-" +
                      std::to_string(cols) + ".txt");
}

// Type name -> tokens, if the file is of this machine; what else is in it is left out.
std::map<std::string, int64_t> ReadFile(const std::filesystem::path& path, const std::string& key) {
  std::map<std::string, int64_t> found;
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line != key) return found;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string name;
    int64_t tokens = 0;
    if (fields >> name >> tokens && tokens >= 2 && tokens <= MatmulTuning::kMostGemmTokens) {
      found[name] = tokens;
    }
  }
  return found;
}

void WriteFile(const std::filesystem::path& path, const std::string& key,
               const std::map<std::string, int64_t>& choices) {
  std::string text = key + "\n";
  for (const auto& [name, tokens] : choices) text += name + " " + std::to_string(tokens) + "\n";
  try {
    std::filesystem::create_directories(path.parent_path());
    AtomicFile file(path);
    file.Write(text);
    file.Commit();
  } catch (const std::exception&) {
    // Then the next run measures again.
  }
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
  const std::filesystem::path path =
      directory.empty() ? directory : FileOf(directory, kernels, cols);
  const std::string key = KeyOf(kernels, cols);
  std::map<std::string, int64_t> known = ReadFile(path, key);
  Calibration result;
  bool measured = false;
  for (const DType type : types) {
    if (kernels.For(type).gemm_panels == nullptr) continue;
    const std::string name(Info(type).name);
    if (!known.contains(name)) {
      known[name] = MeasureGemmTokens(kernels, type, cols);
      measured = true;
    }
    result.tuning.set_gemm_tokens(type, known[name]);
  }
  if (!measured) {
    result.source = path.string();
    return result;
  }
  const auto took = std::chrono::steady_clock::now() - start;
  result.source =
      "measured in " +
      std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) + " ms";
  if (!path.empty()) WriteFile(path, key, known);
  return result;
}

std::filesystem::path CacheDirectory() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::filesystem::path(cache) / "stoker";
  }
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? std::filesystem::path(home) / ".cache" / "stoker"
                                         : std::filesystem::path();
}

}  // namespace stoker
