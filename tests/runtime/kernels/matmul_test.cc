// The backends and their activations inside a thread team: fast against reference, any number of
// threads the same bits, gathered rows like prepared ones, and the error of integer activations.

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "mmap/half.h"
#include "numa/thread_team.h"
#include "runtime/matmul/activations.h"
#include "runtime/matmul/fast_backend.h"
#include "runtime/matmul/reference_backend.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"
#include "tests/support/near.h"

namespace stoker {
namespace {

// Of the process's instruction set, the only one that oneDNN can be held to.
bool Relays() { return ActiveIsaLevel() != IsaLevel::kScalar; }

std::vector<float> Product(ThreadTeam& team, MatmulBackend& backend, const TensorView& weight,
                           const std::vector<float>& x, int64_t m) {
  Activations activations(m + 3, weight.cols() + 64);
  std::vector<float> y(static_cast<size_t>(m * weight.rows()), -7.0f);
  team.Run([&](const Worker& worker) {
    activations.Prepare(worker, x.data(), m, weight.cols(), weight.cols(),
                        backend.FormsFor(weight.type, m));
    worker.Barrier();
    backend.Multiply(worker, weight, activations, y.data(), weight.rows());
  });
  return y;
}

TEST_CASE("exact products agree with the reference, integer ones within their rounding") {
  std::vector<DType> types(std::begin(test::kQuantizedTypes), std::end(test::kQuantizedTypes));
  types.insert(types.end(), std::begin(test::kPlainTypes), std::end(test::kPlainTypes));
  ThreadTeam one(1, false);
  const auto reference = MakeReferenceBackend(1, 4096);
  for (const DType type : types) {
    std::mt19937 rng(31);
    const int64_t rows = 70;
    const int64_t cols = 512;
    const std::vector<std::byte> bytes = test::RandomWeights(type, rows, cols, rng);
    const TensorView weight = test::MatrixView(type, rows, cols, bytes);
    for (const int64_t m : {1, 5, 40}) {
      const std::vector<float> x = test::RandomActivations(m * cols, rng);
      const std::vector<float> expected = Product(one, *reference, weight, x, m);
      CAPTURE(Info(type).name, m);
      const auto exact = MakeFastBackend(Precision::kExact, 1);
      CHECK(test::RelativeError(Product(one, *exact, weight, x, m), expected) < 1e-6);
      const auto fast = MakeFastBackend(Precision::kFast, 1);
      // Rounding to 127 steps of the block's largest value: about 0.5 % of the norm, more with
      // the tenfold values among these activations.
      const bool residual = HasResidual(fast->FormsFor(type, m));
      CHECK(residual == GainsFromResidual(type));
      CHECK(test::RelativeError(Product(one, *fast, weight, x, m), expected) <
            (Info(type).block_elements == 1 ? 1e-6
             : residual                     ? 2e-4
                                            : 0.04));
    }
  }
}

TEST_CASE("the number of threads does not change a bit") {
  ThreadTeam one(1, false);
  std::unique_ptr<ThreadTeam> two;
  try {
    two = std::make_unique<ThreadTeam>(2, false);
  } catch (const std::runtime_error&) {
    WARN("skipped: this process may use one CPU only");
    return;
  }
  for (const DType type :
       {DType::kQ4_K, DType::kQ8_0, DType::kInt8Row, DType::kBF16, DType::kF32}) {
    for (const int64_t rows : {5, 131}) {
      std::mt19937 rng(32);
      const int64_t cols = 1280;
      const std::vector<std::byte> bytes = test::RandomWeights(type, rows, cols, rng);
      const TensorView weight = test::MatrixView(type, rows, cols, bytes);
      for (const int64_t m : {1, 3, 33, 300}) {
        const std::vector<float> x = test::RandomActivations(m * cols, rng);
        for (const Precision precision : {Precision::kFast, Precision::kExact}) {
          const auto first = MakeFastBackend(precision, 1);
          const auto second = MakeFastBackend(precision, 2);
          CAPTURE(Info(type).name, rows, m);
          CHECK(Product(one, *first, weight, x, m) == Product(*two, *second, weight, x, m));
        }
      }
    }
  }
}

TEST_CASE("the first worker polls while it multiplies, and only now and then") {
  ThreadTeam team(1, false);
  std::mt19937 rng(33);
  const int64_t rows = 4096;
  const int64_t cols = 1024;
  for (const DType type : {DType::kQ4_K, DType::kF32}) {
    const std::vector<std::byte> bytes = test::RandomWeights(type, rows, cols, rng);
    const TensorView weight = test::MatrixView(type, rows, cols, bytes);
    const std::vector<float> x = test::RandomActivations(4 * cols, rng);
    const auto backend = MakeFastBackend(Precision::kFast, 1);
    CAPTURE(Info(type).name);
    int polls = 0;
    backend->SetPoll([&] { ++polls; });
    const auto start = std::chrono::steady_clock::now();
    Product(team, *backend, weight, x, 4);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    CHECK(polls >= 1);
    CHECK(polls <= 1 + took.count() / 0.5);
    backend->SetPoll(nullptr);
    Product(team, *backend, weight, x, 4);
  }
}

TEST_CASE("gathered rows equal prepared rows in every form") {
  std::mt19937 rng(33);
  const int64_t k = 288;
  const std::vector<float> x = test::RandomActivations(6 * k, rng);
  const std::vector<int32_t> rows = {5, 0, 0, 3};
  Activations source(6, k);
  Activations gathered(4, k);
  ThreadTeam team(1, false);
  team.Run([&](const Worker& worker) {
    source.Prepare(worker, x.data(), 6, k, k, kActF32 | kActQ8 | kActBf16Parts);
    worker.Barrier();
    gathered.Gather(worker, source, rows, kActF32 | kActQ8 | kActBf16Parts);
  });
  REQUIRE(gathered.m() == 4);
  REQUIRE(gathered.k() == k);
  const Q8Rows from = source.q8_rows();
  const Q8Rows to = gathered.q8_rows();
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    CHECK(std::memcmp(gathered.f32(i), x.data() + row * k, k * sizeof(float)) == 0);
    CHECK(std::memcmp(to.codes + i * to.code_stride, from.codes + row * from.code_stride, 512) ==
          0);
    CHECK(std::memcmp(to.scales + i * to.scale_stride, from.scales + row * from.scale_stride,
                      2 * sizeof(float)) == 0);
    CHECK(std::memcmp(to.sums + i * to.sum_stride, from.sums + row * from.sum_stride,
                      2 * kSumsPerGroup * sizeof(int16_t)) == 0);
    const Bf16Rows parts = SliceRows(gathered.bf16_parts(), kBf16Parts * i, kBf16Parts);
    for (int64_t c = 0; c < k; ++c) {
      float sum = 0.0f;
      for (int64_t part = kBf16Parts - 1; part >= 0; --part) {
        sum += BF16ToF32(parts.x[part * parts.stride + c]);
      }
      CHECK(sum == x[static_cast<size_t>(row * k + c)]);
    }
  }
}

TEST_CASE("residual rows: gathered like the others, and left out where none are wanted") {
  std::mt19937 rng(34);
  const int64_t k = 512;
  const int64_t n_rows = 300;  // more than one panel
  const std::vector<std::byte> bytes = test::RandomWeights(DType::kQ6_K, n_rows, k, rng);
  const TensorView weight = test::MatrixView(DType::kQ6_K, n_rows, k, bytes);
  const std::vector<float> x = test::RandomActivations(6 * k, rng);
  const std::vector<int32_t> rows = {5, 0, 3};
  const auto backend = MakeFastBackend(Precision::kFast, 1);
  Activations source(6, k);
  Activations with(3, k);
  Activations without(3, k);
  std::vector<float> all(6 * n_rows);
  std::vector<float> gathered(3 * n_rows);
  std::vector<float> coarse(3 * n_rows);
  ThreadTeam team(1, false);
  team.Run([&](const Worker& worker) {
    source.Prepare(worker, x.data(), 6, k, k, kActQ8Residual);
    with.Gather(worker, source, rows, kActQ8Residual);
    without.Gather(worker, source, rows, kActQ8);
    backend->Multiply(worker, weight, source, all.data(), n_rows);
    backend->Multiply(worker, weight, with, gathered.data(), n_rows);
    backend->Multiply(worker, weight, without, coarse.data(), n_rows);
  });
  std::vector<float> expected;
  for (const int32_t row : rows) {
    expected.insert(expected.end(), all.begin() + row * n_rows, all.begin() + (row + 1) * n_rows);
  }
  CHECK(test::RelativeError(gathered, expected) < 1e-6);
  CHECK(test::RelativeError(coarse, expected) > 1e-4);
  CHECK(test::RelativeError(coarse, expected) < 0.04);
}

TEST_CASE("re-laid weights give the bits of the file's layout, few tokens those of many") {
  ThreadTeam team(1, false);
  const auto backend = MakeFastBackend(Precision::kFast, 1);
  for (const DType type : test::kQuantizedTypes) {
    std::mt19937 rng(35);
    const int64_t rows = 16 * 9 + 5;  // the last five are never re-laid
    const int64_t cols = 512;
    std::vector<std::byte> bytes = test::RandomWeights(type, rows, cols, rng);
    const std::vector<std::byte> in_file = bytes;
    TensorView weight = test::MatrixView(type, rows, cols, bytes);
    const std::vector<float> x = test::RandomActivations(40 * cols, rng);
    CAPTURE(Info(type).name);

    const std::vector<float> expected = Product(team, *backend, weight, x, 40);
    CHECK(bytes == in_file);
    weight.may_relay = true;
    const WeightLayout layout = backend->LayoutAfter(weight);
    CHECK((layout == WeightLayout::kPanels) == Relays());
    CHECK(Product(team, *backend, weight, x, 40) == expected);
    CHECK((bytes != in_file) == Relays());
    CHECK(std::equal(bytes.end() - 5 * weight.row_bytes(), bytes.end(),
                     in_file.end() - 5 * weight.row_bytes()));

    weight.layout = layout;
    weight.may_relay = false;
    CHECK(Product(team, *backend, weight, x, 40) == expected);
    const std::vector<float> first(x.begin(), x.begin() + 3 * cols);
    const std::vector<float> few = Product(team, *backend, weight, first, 3);
    CHECK(std::equal(few.begin(), few.end(), expected.begin()));

    std::vector<std::byte> ahead = in_file;
    TensorView other = test::MatrixView(type, rows, cols, ahead);
    other.may_relay = true;
    team.Run([&](const Worker& worker) { backend->Relay(worker, other); });
    CHECK(ahead == bytes);

    // More workers than panels: the last have no rows.
    const auto backend_of_many = MakeFastBackend(Precision::kFast, 12);
    ahead = in_file;
    for (int i = 0; i < 12; ++i) {
      Worker worker;
      worker.index = i;
      worker.count = 12;
      backend_of_many->Relay(worker, other);
    }
    CHECK(ahead == bytes);
  }
}

TEST_CASE("plain weights as panels: in place, from the file, in parts or widened") {
  ThreadTeam one(1, false);
  const auto reference = MakeReferenceBackend(1, 4096);
  for (const DType type : test::kPlainTypes) {
    // Rows that are no whole panels, the last five never re-laid, and one column without a partner;
    // blocks of columns of either route.
    for (const int64_t cols : {int64_t{512}, int64_t{2079}}) {
      std::mt19937 rng(36);
      const int64_t rows = 16 * 9 + 5;
      const std::vector<std::byte> in_file = test::RandomWeights(type, rows, cols, rng);
      const std::vector<float> many = test::RandomActivations(600 * cols, rng);
      const TensorView of_file = test::MatrixView(type, rows, cols, in_file);
      for (const int64_t m : {1, 7, 140, 600}) {
        const std::vector<float> x(many.begin(), many.begin() + m * cols);
        const std::vector<float> expected = Product(one, *reference, of_file, x, m);
        for (const bool split : {false, true}) {
          MatmulTuning tuning;
          tuning.set_splits_bf16(split);
          CAPTURE(Info(type).name, cols, m, split);
          const auto backend = MakeFastBackend(Precision::kFast, 1, ActiveIsaLevel(), true, tuning);
          const std::vector<float> from_file = Product(one, *backend, of_file, x, m);
          CHECK(test::RelativeError(from_file, expected) < 2e-6);  // sums of 2079 in f32
          std::vector<std::byte> bytes = in_file;
          TensorView weight = test::MatrixView(type, rows, cols, bytes);
          weight.may_relay = true;
          const WeightLayout layout = backend->LayoutAfter(weight);
          CHECK((layout == WeightLayout::kPanels) == Relays());
          CHECK(Product(one, *backend, weight, x, m) == from_file);
          CHECK((bytes != in_file) == Relays());
          weight.layout = layout;
          weight.may_relay = false;
          CHECK(Product(one, *backend, weight, x, m) == from_file);
        }
      }
    }
  }
}

TEST_CASE("a matrix of few rows stays as it is") {
  const std::vector<std::byte> bytes(32 * 1024 * sizeof(float));
  TensorView router = test::MatrixView(DType::kF32, 32, 1024, bytes);
  router.may_relay = true;
  const auto backend = MakeFastBackend(Precision::kFast, 1);
  CHECK(backend->LayoutAfter(router) == WeightLayout::kRows);
}

TEST_CASE("routes") {
  for (const DType type : test::kQuantizedTypes) {
    CHECK(GainsFromResidual(type) ==
          (type == DType::kQ8_0 || type == DType::kInt8Row || type == DType::kQ6_K));
  }
  CHECK(ChooseRoute(IsaLevel::kScalar, Precision::kFast, DType::kQ4_K, 512) == Route::kDotQ8);
  CHECK(ChooseRoute(IsaLevel::kScalar, Precision::kExact, DType::kQ4_K, 1) == Route::kDotF32);
  CHECK(ChooseRoute(IsaLevel::kScalar, Precision::kFast, DType::kBF16, 1) == Route::kDotF32);
  if (CpuFeatures::Detect().best_level() >= IsaLevel::kAvx2) {
    CHECK(ChooseRoute(IsaLevel::kAvx2, Precision::kFast, DType::kBF16, 1) == Route::kDotPlain);
    CHECK(ChooseRoute(IsaLevel::kAvx2, Precision::kExact, DType::kF16, 1) == Route::kDotPlain);
    CHECK(ChooseRoute(IsaLevel::kAvx2, Precision::kFast, DType::kQ4_K, 1) == Route::kDotQ8);
    CHECK(ChooseRoute(IsaLevel::kAvx2, Precision::kFast, DType::kQ4_K, 512) == Route::kGemmQ8);
  }
}

}  // namespace
}  // namespace stoker
