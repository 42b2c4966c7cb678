// Products through oneDNN's micro-kernel give the bits of the panel kernels, for all formats that
// have planes, every share of a block of rows and of tokens. Skipped, and said so, where there is
// no micro-kernel.

#include "runtime/matmul/scaled_products.h"

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "numa/node_buffer.h"
#include "numa/thread_team.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/matmul/activations.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

// Null, and said so, where this machine or build has none.
std::unique_ptr<ScaledProducts> MakeScaled(int n_workers) {
  std::unique_ptr<ScaledProducts> made;
  if (CpuFeatures::Detect().best_level() >= IsaLevel::kAvx512) {
    made = ScaledProducts::Make(n_workers);
  }
  if (made == nullptr) WARN("no micro-kernel here: skipped");
  return made;
}

struct Matrix {
  int64_t row_bytes;
  std::vector<std::byte> panels;

  Matrix(const TypeKernels& kernels, DType type, int64_t rows, int64_t k,
         const std::vector<std::byte>& bytes)
      : row_bytes(static_cast<int64_t>(bytes.size()) / rows),
        panels(static_cast<size_t>((rows + kPanelRows - 1) / kPanelRows * kPanelRows * row_bytes)) {
    for (int64_t row = 0; row < rows; row += kPanelRows) {
      kernels.repack({bytes.data() + row * row_bytes, row_bytes, std::min(kPanelRows, rows - row)},
                     k, panels.data() + row * row_bytes);
    }
    const bool fits = type == DType::kQ2_K || type == DType::kQ3_K || type == DType::kInt8Row;
    CHECK(kernels.planes == (fits ? 1 : 2));
  }
};

void CheckSameBits(ScaledProducts* scaled, DType type, int64_t rows, int64_t k, int64_t m,
                   const std::vector<std::byte>& bytes, const std::vector<float>& x) {
  const KernelTable& table = KernelsFor(IsaLevel::kAvx512);
  const TypeKernels& kernels = table.For(type);
  const Matrix w(kernels, type, rows, k, bytes);
  Activations activations(m, k, IsaLevel::kAvx512);
  activations.Prepare(Worker{}, x.data(), m, k, k, kActQ8);
  const NodeBuffer scratch =
      NodeBuffer::Allocate(static_cast<size_t>(table.gemm_scratch_bytes), "test scratch");
  // A column more than rows, which must stay as it is.
  const int64_t stride = rows + 1;
  std::vector<float> expected(static_cast<size_t>(m * stride), 3.0f);
  std::vector<float> got = expected;
  kernels.gemm_panels(w.panels.data(), rows, activations.q8_rows(), scratch.data(), expected.data(),
                      stride);
  scaled->Multiply(0, kernels, w.panels.data(), w.row_bytes, rows, activations.q8_rows(),
                   got.data(), stride);
  CAPTURE(Info(type).name, rows, k, m);
  CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
}

TEST_CASE("the bits of the panel kernels, for every format with planes") {
  const auto scaled = MakeScaled(1);
  if (scaled == nullptr) return;
  int n_types = 0;
  for (const DType type : test::kQuantizedTypes) {
    if (KernelsFor(IsaLevel::kAvx512).For(type).planes == 0) continue;
    ++n_types;
    std::mt19937 rng(21);
    for (const auto& [rows, k, m] : {std::array<int64_t, 3>{1, 256, 1}, {16, 512, 16},
                                     {64, 256, 17}, {65, 1280, 63}, {200, 256, 64},
                                     {273, 512, 65}, {48, 2304, 130}, {70, 256, 600}}) {
      CheckSameBits(scaled.get(), type, rows, k, m, test::RandomWeights(type, rows, k, rng),
                    test::RandomActivations(m * k, rng));
    }
  }
  CHECK(n_types == 7);
}

TEST_CASE("the largest codes and scales fit their planes") {
  const auto scaled = MakeScaled(1);
  if (scaled == nullptr) return;
  for (const DType type : test::kQuantizedTypes) {
    if (KernelsFor(IsaLevel::kAvx512).For(type).planes == 0) continue;
    // One activation at a time, so that no sum is large; bytes of ones and of zeros are the ends of
    // codes and scales.
    const int64_t rows = 16, k = 256, m = k;
    std::vector<float> x(static_cast<size_t>(m * k), 0.0f);
    for (int64_t t = 0; t < m; ++t) x[static_cast<size_t>(t * k + t)] = t % 2 == 0 ? 1.0f : -1.0f;
    for (const int pattern : {0x00, 0xff, 0x0f, 0xf0, 0x80, 0x7f}) {
      std::mt19937 rng(22);
      std::vector<std::byte> bytes(static_cast<size_t>(rows * k / Info(type).block_elements *
                                                       Info(type).block_bytes),
                                   static_cast<std::byte>(pattern));
      test::SetRandomScales(type, rng, -1.0, -0.5, &bytes);
      CheckSameBits(scaled.get(), type, rows, k, m, bytes, x);
    }
  }
}

TEST_CASE("workers multiply at the same time") {
  constexpr int kWorkers = 2;
  const auto scaled = MakeScaled(kWorkers);
  if (scaled == nullptr) return;
  const TypeKernels& kernels = KernelsFor(IsaLevel::kAvx512).For(DType::kQ4_K);
  std::mt19937 rng(23);
  const int64_t rows = 128, k = 512, m = 80;
  const Matrix w(kernels, DType::kQ4_K, rows, k, test::RandomWeights(DType::kQ4_K, rows, k, rng));
  const std::vector<float> x = test::RandomActivations(m * k, rng);
  Activations activations(m, k, IsaLevel::kAvx512);
  activations.Prepare(Worker{}, x.data(), m, k, k, kActQ8);
  std::vector<float> y[kWorkers];
  ThreadTeam team(kWorkers, false);
  for (int round = 0; round < 20; ++round) {
    team.Run([&](const Worker& worker) {
      std::vector<float>& mine = y[worker.index];
      mine.assign(static_cast<size_t>(m * rows), 0.0f);
      scaled->Multiply(worker.index, kernels, w.panels.data(), w.row_bytes, rows,
                       activations.q8_rows(), mine.data(), rows);
    });
    CHECK(y[0] == y[1]);
  }
}

}  // namespace
}  // namespace stoker
