// The calibration: choices within their range, kept per machine and row length, and no bit of a
// product depends on them.

#include "runtime/matmul/tuning.h"

#include <array>
#include <fstream>
#include <string>
#include <vector>

#include "numa/thread_team.h"
#include "runtime/matmul/activations.h"
#include "runtime/matmul/fast_backend.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

constexpr std::array kTypes = {DType::kF32, DType::kQ4_K, DType::kQ8_0};

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// False, and said so, at the scalar level.
bool HasChoice() {
  if (ActiveKernels().For(DType::kQ4_K).gemm_panels != nullptr) return true;
  WARN("no panel kernels at this level: nothing to choose");
  return false;
}

TEST_CASE("measurements are kept, and damaged or foreign ones made again") {
  const KernelTable& kernels = ActiveKernels();
  if (!HasChoice()) return;
  const test::TempDir directory;
  const std::filesystem::path kept = directory.path() / "below";  // is made

  const Calibration first = Calibrate(kernels, kTypes, 512, kept);
  CHECK(first.source.starts_with("measured in "));
  for (const DType type : {DType::kQ4_K, DType::kQ8_0}) {
    CHECK(first.tuning.gemm_tokens(type) >= 2);
    CHECK(first.tuning.gemm_tokens(type) <= MatmulTuning::kMostGemmTokens);
    CHECK(first.tuning.scaled_tokens(type) >= 32);
  }
  CHECK(first.tuning.gemm_tokens(DType::kQ2_K) == MatmulTuning::kDefaultGemmTokens);

  const std::filesystem::path file = std::filesystem::directory_iterator(kept)->path();
  const Calibration second = Calibrate(kernels, kTypes, 512, kept);
  CHECK(second.source == file.string());
  CHECK(second.tuning.gemm_tokens(DType::kQ4_K) == first.tuning.gemm_tokens(DType::kQ4_K));
  // Of a type that was not asked for, or another length: what is missing is measured.
  const std::array more = {DType::kQ4_K, DType::kQ6_K};
  CHECK(Calibrate(kernels, more, 512, kept).source.starts_with("measured in "));
  CHECK(Calibrate(kernels, more, 512, kept).source == file.string());
  CHECK(Calibrate(kernels, kTypes, 512, kept).source == file.string());
  CHECK(Calibrate(kernels, kTypes, 768, kept).source.starts_with("measured in "));

  const std::string key = FirstLine(file);
  test::WriteFile(file, key + "\nQ4_K 4\nQ8_0 1000\n");
  CHECK(Calibrate(kernels, kTypes, 512, kept).source.starts_with("measured in "));
  CHECK(FirstLine(file) == key);
  test::WriteFile(file, key + "\nQ4_K 4\nQ8_0 5\nQ4_K.scaled 77\n");
  const Calibration read = Calibrate(kernels, kTypes, 512, kept);
  CHECK(read.tuning.gemm_tokens(DType::kQ4_K) == 4);
  CHECK(read.tuning.gemm_tokens(DType::kQ8_0) == 5);
  if (kernels.For(DType::kQ4_K).planes > 0) CHECK(read.tuning.scaled_tokens(DType::kQ4_K) == 77);
}

TEST_CASE("without a place to keep them measurements are made every time") {
  const KernelTable& kernels = ActiveKernels();
  if (!HasChoice()) return;
  CHECK(Calibrate(kernels, kTypes, 512, "").source.starts_with("measured in "));
  CHECK(Calibrate(kernels, kTypes, 512, "/proc/nothing").source.starts_with("measured in "));
}

TEST_CASE("plain types have rates, and INT8 rows need not be whole groups") {
  const KernelTable& kernels = ActiveKernels();
  if (!HasChoice()) return;
  constexpr std::array types = {DType::kF32, DType::kF16, DType::kBF16, DType::kInt8Row};
  for (const int64_t cols : {100, 288, 512}) {
    const Calibration made = Calibrate(kernels, types, cols, "");
    for (const DType type : types) {
      CAPTURE(Info(type).name, cols);
      for (const int64_t tokens : ProductRates::kTokens) {
        CHECK(made.rates.At(type, tokens) != ProductRates::kDefault);
        CHECK(made.rates.At(type, tokens) >= 1e6);
      }
    }
  }
}

TEST_CASE("where routes round differently a choice is kept, or built in") {
  const KernelTable& kernels = ActiveKernels();
  if (!HasChoice()) return;
  constexpr std::array types = {DType::kF32, DType::kBF16};
  const test::TempDir directory;
  const Calibration made = Calibrate(kernels, types, kOneDnnColumns, directory.path());
  const Calibration read = Calibrate(kernels, types, kOneDnnColumns, directory.path());
  const Calibration lost = Calibrate(kernels, types, kOneDnnColumns, "/proc/nothing");
  const Calibration brief = Calibrate(kernels, types, kOneDnnColumns / 2, directory.path());
  CHECK(made.tuning.splits_bf16() == read.tuning.splits_bf16());
  CHECK(lost.tuning.splits_bf16() == MatmulTuning().splits_bf16());
  for (const DType type : types) {
    CAPTURE(Info(type).name);
    CHECK(made.tuning.wide_tokens(type) >= 16);
    CHECK(made.tuning.wide_tokens(type) == read.tuning.wide_tokens(type));
    CHECK(lost.tuning.wide_tokens(type) == 0);
    CHECK(brief.tuning.wide_tokens(type) == 0);
  }
  MatmulTuning early;
  early.set_wide_tokens(DType::kF32, 3);
  CHECK(ChooseRoute(kernels.level, Precision::kFast, DType::kF32, 2, early) == Route::kDotPlain);
  if (OneDnnTokens(kernels.level, DType::kF32, early) < MatmulTuning::kNever) {
    CHECK(ChooseRoute(kernels.level, Precision::kFast, DType::kF32, 3, early) ==
          Route::kOneDnnWidened);
  }
}

TEST_CASE("a choice changes no bit") {
  if (!HasChoice()) return;
  MatmulTuning early;
  MatmulTuning late;
  MatmulTuning scaled;
  ThreadTeam team(1, false);
  for (const DType type : test::kQuantizedTypes) {
    early.set_gemm_tokens(type, 2);
    late.set_gemm_tokens(type, MatmulTuning::kMostGemmTokens);
    early.set_scaled_tokens(type, MatmulTuning::kNever);
    late.set_scaled_tokens(type, MatmulTuning::kNever);
    scaled.set_scaled_tokens(type, 2);
  }
  const auto first = MakeFastBackend(Precision::kFast, 1, ActiveIsaLevel(), true, early);
  const auto second = MakeFastBackend(Precision::kFast, 1, ActiveIsaLevel(), true, late);
  const auto third = MakeFastBackend(Precision::kFast, 1, ActiveIsaLevel(), true, scaled);
  for (const DType type : test::kQuantizedTypes) {
    CAPTURE(Info(type).name);
    std::mt19937 rng(7);
    const int64_t rows = 48, cols = 512, m = 5;
    const std::vector<std::byte> bytes = test::RandomWeights(type, rows, cols, rng);
    const TensorView weight = test::MatrixView(type, rows, cols, bytes);
    const std::vector<float> x = test::RandomActivations(m * cols, rng);
    std::vector<float> y(static_cast<size_t>(m * rows)), z(y.size()), v(y.size());
    Activations activations(m, cols);
    team.Run([&](const Worker& worker) {
      activations.Prepare(worker, x.data(), m, cols, cols, first->FormsFor(type, m));
      first->Multiply(worker, weight, activations, y.data(), rows);
      second->Multiply(worker, weight, activations, z.data(), rows);
      third->Multiply(worker, weight, activations, v.data(), rows);
    });
    CHECK(y == z);
    CHECK(y == v);
  }
  CHECK(ChooseRoute(ActiveIsaLevel(), Precision::kFast, DType::kQ4_K, 2, early) == Route::kGemmQ8);
  CHECK(ChooseRoute(ActiveIsaLevel(), Precision::kFast, DType::kQ4_K, 2, late) == Route::kDotQ8);
  if (ActiveKernels().For(DType::kQ4_K).planes > 0) {
    CHECK(ChooseRoute(ActiveIsaLevel(), Precision::kFast, DType::kQ4_K, 2, scaled) ==
          Route::kScaledQ8);
  }
}

}  // namespace
}  // namespace stoker
