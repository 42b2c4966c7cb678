// How close do the weight kernels come to the memory bandwidth (few tokens), and how many
// operations per second do they reach (many tokens)?
//
// Timed region: one MatmulBackend::Multiply of a matrix of about 1.6 GB (k = 6144), larger than any
// cache, by all threads; the activations are prepared before. Before each repetition the plain read
// loop runs over the same bytes; `of_read` is the kernel's bytes per second over the loop's.
// Many tokens use a matrix of 9216 rows (an expert's); `gop` counts 2 * rows * k * m.
//
//   kernel_bench [--benchmark_filter=dot/avx512/Q4_K]

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/read_loop.h"
#include "mmap/tensor_view.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"
#include "runtime/matmul/activations.h"
#include "runtime/matmul/fast_backend.h"

namespace stoker {
namespace {

constexpr int64_t kCols = 6144;
constexpr uint64_t kMatrixBytes = 1600ull << 20;
constexpr int64_t kExpertRows = 9216;

constexpr DType kTypes[] = {
    DType::kQ8_0, DType::kQ6_K, DType::kQ5_K, DType::kQ4_K, DType::kQ3_K, DType::kQ2_K,
    DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kIQ4_NL, DType::kIQ4_XS,
    DType::kInt8Row, DType::kBF16, DType::kF16, DType::kF32};

// The machine's team and one large buffer that every type reinterprets. Bytes are random under a
// mask that keeps every f16 and f32 exponent below its top, so all scales are finite; the values
// mean nothing.
class Rig {
 public:
  Rig();

  ThreadTeam team{0};
  NodeBuffer weights = NodeBuffer::Allocate(kMatrixBytes, "bench weights");
  std::vector<float> x;
  std::vector<float> y;
};

Rig::Rig() {
  std::mt19937_64 rng(1);
  std::vector<uint64_t> pattern(1 << 17);
  for (uint64_t& word : pattern) word = rng() & 0x3f3f3f3f3f3f3f3full;
  const size_t pattern_bytes = pattern.size() * sizeof(uint64_t);
  team.Run([&](const Worker& worker) {
    const auto [begin, end] =
        worker.Share(static_cast<int64_t>(kMatrixBytes), static_cast<int64_t>(pattern_bytes));
    for (int64_t at = begin; at < end; at += static_cast<int64_t>(pattern_bytes)) {
      std::memcpy(weights.data() + at, pattern.data(),
                  std::min(pattern_bytes, static_cast<size_t>(end - at)));
    }
  });
  std::normal_distribution<float> normal;
  x.resize(static_cast<size_t>(512 * kCols));
  for (float& value : x) value = normal(rng);
}

TensorView Matrix(DType type, std::optional<int64_t> rows, const std::byte* data) {
  TensorView view;
  view.type = type;
  view.n_dims = 2;
  view.shape = {0, kCols, 1, 1};
  view.shape[0] = rows.value_or(static_cast<int64_t>(kMatrixBytes / view.row_bytes()));
  view.data = data;
  view.bytes = static_cast<uint64_t>(view.shape[0]) * view.row_bytes();
  static const std::vector<float> scales(kMatrixBytes / kCols, 1.0f);
  if (type == DType::kInt8Row) view.row_scales = scales.data();
  return view;
}

double Seconds(ThreadTeam& team, MatmulBackend& backend, const TensorView& weight,
               const Activations& x, float* y) {
  const auto start = std::chrono::steady_clock::now();
  team.Run([&](const Worker& worker) { backend.Multiply(worker, weight, x, y, weight.rows()); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void RunProduct(benchmark::State& state, Rig* rig_of_all, IsaLevel level, Precision precision,
                DType type, int64_t m, std::optional<int64_t> rows) {
  Rig& rig = *rig_of_all;
  const auto backend = MakeFastBackend(precision, rig.team.size(), level);
  TensorView weight = Matrix(type, rows, rig.weights.data());
  // Random bytes are a panel as well as rows of the file; owned weights are panels.
  weight.may_relay = true;
  weight.layout = backend->LayoutAfter(weight);
  weight.may_relay = false;
  Activations x(m, kCols, level);
  rig.team.Run([&](const Worker& worker) {
    x.Prepare(worker, rig.x.data(), m, kCols, kCols, backend->FormsFor(type, m));
  });
  rig.y.resize(std::max(rig.y.size(), static_cast<size_t>(m * weight.rows())));
  const std::span<const std::byte> bytes(weight.data, weight.bytes);
  std::vector<double> ratios;
  std::vector<double> times;
  for (auto _ : state) {
    const double read = TimeReadLoop(rig.team, bytes);
    const double product = Seconds(rig.team, *backend, weight, x, rig.y.data());
    state.SetIterationTime(product);
    ratios.push_back(read / product);
    times.push_back(product);
  }
  const double seconds = Median(times);
  state.counters["of_read"] = Median(ratios);
  state.counters["GB/s"] = static_cast<double>(weight.bytes) / seconds * 1e-9;
  state.counters["gop"] =
      2.0 * static_cast<double>(weight.rows() * kCols * m) / seconds * 1e-9;
}

void Register(Rig* rig) {
  const IsaLevel best = CpuFeatures::Detect().best_level();
  for (const IsaLevel level : {IsaLevel::kAvx512, IsaLevel::kAvx2}) {
    if (level > best) continue;
    const std::string isa(IsaLevelName(level));
    for (const DType type : kTypes) {
      const std::string suffix = isa + "/" + std::string(Info(type).name) + "/m:";
      for (const int64_t m : {1, 2, 4, 7, 8, 12}) {  // both sides of the change of route
        benchmark::RegisterBenchmark(("dot/" + suffix + std::to_string(m)).c_str(), RunProduct, rig,
                                     level, Precision::kFast, type, m, std::nullopt)
            ->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(7);
      }
      benchmark::RegisterBenchmark(("exact/" + suffix + "1").c_str(), RunProduct, rig, level,
                                   Precision::kExact, type, 1, std::nullopt)
          ->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(3);
      for (const int64_t m : {12, 16, 32, 64, 128, 256, 512}) {
        benchmark::RegisterBenchmark(("gemm/" + suffix + std::to_string(m)).c_str(), RunProduct,
                                     rig, level, Precision::kFast, type, m, kExpertRows)
            ->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);
      }
    }
  }
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  stoker::Rig rig;
  stoker::Register(&rig);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
