// Every kernel of every level this machine has against the scalar specification: all types, row
// lengths, token counts and scale sizes, at unaligned addresses, with bytes behind the last block
// that must not matter.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "numa/node_buffer.h"
#include "runtime/kernels/dequantize.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/panel_layout.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

std::vector<IsaLevel> VectorLevels() {
  std::vector<IsaLevel> levels = test::Levels();
  levels.erase(levels.begin());
  return levels;
}

// Owns the bytes of Q8Rows.
struct Q8 {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int16_t> sums;
  Q8Rows rows;

  Q8(const KernelTable& kernels, const std::vector<float>& x, int64_t m, int64_t k) {
    rows.m = m;
    rows.k = k;
    rows.n_groups = (k + kGroup - 1) / kGroup;
    rows.code_stride = rows.n_groups * kGroup + 64;
    rows.scale_stride = rows.n_groups + 3;
    rows.sum_stride = rows.n_groups * kSumsPerGroup + 16;
    // Bytes between rows are poison, so that reading outside a row shows.
    codes.assign(static_cast<size_t>(m * rows.code_stride), 111);
    scales.assign(static_cast<size_t>(m * rows.scale_stride),
                  std::numeric_limits<float>::quiet_NaN());
    sums.assign(static_cast<size_t>(m * rows.sum_stride), 32111);
    rows.codes = codes.data();
    rows.scales = scales.data();
    rows.sums = sums.data();
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t g = 0; g < rows.n_groups; ++g) {
        kernels.quantize_q8(x.data() + t * k + g * kGroup, std::min(kGroup, k - g * kGroup),
                            rows.codes + t * rows.code_stride + g * kGroup,
                            rows.scales + t * rows.scale_stride + g,
                            rows.sums + t * rows.sum_stride + g * kSumsPerGroup);
      }
    }
  }
};

// sum |w x| per row and token: what the tolerances are relative to.
std::vector<double> Magnitudes(DType type, const std::byte* w, int64_t row_bytes, int64_t rows,
                               const std::vector<float>& x, int64_t m, int64_t k) {
  std::vector<double> out(static_cast<size_t>(rows * m));
  std::vector<float> row(static_cast<size_t>(k));
  for (int64_t r = 0; r < rows; ++r) {
    DequantizeRow(type, w + r * row_bytes, row.data(), k);
    for (int64_t t = 0; t < m; ++t) {
      double sum = 0.0;
      for (int64_t i = 0; i < k; ++i) {
        sum += std::fabs(static_cast<double>(row[static_cast<size_t>(i)]) *
                         x[static_cast<size_t>(t * k + i)]);
      }
      out[static_cast<size_t>(t * rows + r)] = sum;
    }
  }
  return out;
}

struct Shape {
  int64_t rows;
  int64_t k;
  int64_t m;
};

struct Case {
  std::vector<std::byte> bytes;
  WeightRows w;
  std::vector<float> x;
  std::vector<double> magnitudes;

  Case(DType type, const Shape& shape, std::mt19937& rng, double low, double high) {
    const std::vector<std::byte> exact =
        test::RandomWeights(type, shape.rows, shape.k, rng, low, high);
    bytes.resize(exact.size() + 1);  // One byte in front makes every address odd.
    std::memcpy(bytes.data() + 1, exact.data(), exact.size());
    bytes.shrink_to_fit();
    w = {bytes.data() + 1, static_cast<int64_t>(exact.size()) / shape.rows, shape.rows};
    x = test::RandomActivations(shape.m * shape.k, rng);
    magnitudes = Magnitudes(type, w.data, w.row_bytes, shape.rows, x, shape.m, shape.k);
  }
};

// The rows of w as panels.
std::vector<std::byte> Panels(const TypeKernels& kernels, const WeightRows& w, int64_t k) {
  const int64_t panel_bytes = kPanelRows * w.row_bytes;
  std::vector<std::byte> panels(
      static_cast<size_t>((w.n_rows + kPanelRows - 1) / kPanelRows * panel_bytes));
  for (int64_t row = 0; row < w.n_rows; row += kPanelRows) {
    kernels.repack({w.data + row * w.row_bytes, w.row_bytes, std::min(kPanelRows, w.n_rows - row)},
                   k, panels.data() + row * w.row_bytes);
  }
  return panels;
}

int64_t SetBits(const std::byte* bytes, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += std::popcount(static_cast<unsigned char>(bytes[i]));
  return count;
}

double WorstRelative(const std::vector<float>& got, const std::vector<float>& expected,
                     const std::vector<double>& magnitudes) {
  double worst = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - expected[i]);
    worst = std::max(worst, std::isfinite(got[i]) ? error / (magnitudes[i] + 1e-30) : 1e30);
  }
  return worst;
}

const Shape kShapes[] = {{3, 256, 1},  {5, 512, 2},   {4, 768, 3},   {7, 256, 4},
                         {9, 1280, 5}, {2, 256, 6},   {1, 2304, 7},  {5, 512, 8},
                         {6, 256, 9},  {18, 512, 17}, {33, 512, 64}, {64, 256, 64}};

std::vector<Shape> ShapesFor(DType type) {
  std::vector<Shape> shapes(std::begin(kShapes), std::end(kShapes));
  if (Info(type).block_elements == 32) {
    for (const int64_t k : {32, 96, 288, 544, 992}) shapes.push_back({17, k, 1 + k / 32 % 19});
  }
  return shapes;
}

TEST_CASE("a level's table is its own") {
  CHECK(KernelsFor(IsaLevel::kScalar).level == IsaLevel::kScalar);
  for (const IsaLevel level : VectorLevels()) {
    CHECK(KernelsFor(level).level == level);
    for (const DType type : test::kQuantizedTypes) {
      CHECK(KernelsFor(level).For(type).gemm_panels != nullptr);
      CHECK(KernelsFor(level).For(type).dot_q8 == nullptr);
    }
  }
}

TEST_CASE("integer kernels agree with the scalar ones") {
  const KernelTable& scalar = KernelsFor(IsaLevel::kScalar);
  for (const IsaLevel level : VectorLevels()) {
    const KernelTable& kernels = KernelsFor(level);
    for (const DType type : test::kQuantizedTypes) {
      std::mt19937 rng(11);
      for (const Shape& shape : ShapesFor(type)) {
        // The scales cover what f16 holds: subnormal, common, near its largest.
        for (const auto& [low, high] : {std::pair{-3.0, -1.0}, {-7.5, -5.0}, {4.0, 4.8}}) {
          const Case c(type, shape, rng, low, high);
          const Q8 x(scalar, c.x, shape.m, shape.k);
          const size_t n = static_cast<size_t>(shape.rows * shape.m);
          std::vector<float> expected(n, 1e30f);
          scalar.For(type).dot_q8(c.w, x.rows, expected.data(), shape.rows);
          const std::vector<std::byte> panels = Panels(kernels.For(type), c.w, shape.k);
          std::vector<float> got(n, 1e30f);
          kernels.For(type).dot_panels(panels.data(), shape.rows, x.rows, got.data(), shape.rows);
          CAPTURE(IsaLevelName(level), Info(type).name, shape.rows, shape.k, shape.m, low);
          CHECK(WorstRelative(got, expected, c.magnitudes) < 1e-5);
          const NodeBuffer scratch =
              NodeBuffer::Allocate(static_cast<size_t>(kernels.gemm_scratch_bytes), "test scratch");
          std::vector<float> many(n, 1e30f);
          kernels.For(type).gemm_panels(panels.data(), shape.rows, x.rows, scratch.data(),
                                        many.data(), shape.rows);
          CHECK(std::memcmp(many.data(), got.data(), n * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST_CASE("every level makes the same panels, of the bits of the rows") {
  std::vector<DType> types(std::begin(test::kQuantizedTypes), std::end(test::kQuantizedTypes));
  types.insert(types.end(), std::begin(test::kPlainTypes), std::end(test::kPlainTypes));
  for (const DType type : types) {
    std::mt19937 rng(15);
    const int64_t k = Info(type).block_elements == 1 ? 781 : 768;
    const int64_t rows = 21;
    const Case c(type, {rows, k, 1}, rng, -3.0, -1.0);
    std::vector<std::byte> first;
    for (const IsaLevel level : VectorLevels()) {
      const std::vector<std::byte> panels = Panels(KernelsFor(level).For(type), c.w, k);
      CAPTURE(IsaLevelName(level), Info(type).name);
      if (first.empty()) first = panels;
      CHECK(panels == first);
      // A permutation: as many bits set as before, missing rows add none.
      CHECK(SetBits(panels.data(), static_cast<int64_t>(panels.size())) ==
            SetBits(c.w.data, rows * c.w.row_bytes));
    }
  }
}

TEST_CASE("full-precision kernels agree with the scalar ones and do not depend on m") {
  const KernelTable& scalar = KernelsFor(IsaLevel::kScalar);
  for (const IsaLevel level : VectorLevels()) {
    const KernelTable& kernels = KernelsFor(level);
    std::vector<DType> types(std::begin(test::kQuantizedTypes), std::end(test::kQuantizedTypes));
    types.insert(types.end(), std::begin(test::kPlainTypes), std::end(test::kPlainTypes));
    for (const DType type : types) {
      std::mt19937 rng(12);
      std::vector<Shape> shapes = ShapesFor(type);
      if (Info(type).block_elements == 1) {
        for (const int64_t k : {1, 7, 15, 16, 17, 63, 96, 2047, 2049}) shapes.push_back({5, k, 4});
      }
      for (const Shape& shape : shapes) {
        const Case c(type, shape, rng, -3.0, -1.0);
        const F32Rows x{c.x.data(), shape.k, shape.m, shape.k};
        const size_t n = static_cast<size_t>(shape.rows * shape.m);
        std::vector<float> expected(n);
        std::vector<float> got(n);
        scalar.For(type).dot_f32(c.w, x, expected.data(), shape.rows);
        kernels.For(type).dot_f32(c.w, x, got.data(), shape.rows);
        CAPTURE(IsaLevelName(level), Info(type).name, shape.rows, shape.k, shape.m);
        // The formats with a minimum lose a little where code and minimum cancel.
        CHECK(WorstRelative(got, expected, c.magnitudes) < 2e-6);
        // Token by token and row by row: the same bits.
        std::vector<float> single(n);
        for (int64_t t = 0; t < shape.m; ++t) {
          for (int64_t r = 0; r < shape.rows; ++r) {
            const WeightRows row{c.w.data + r * c.w.row_bytes, c.w.row_bytes, 1};
            kernels.For(type).dot_f32(row, SliceRows(x, t, 1), single.data() + t * shape.rows + r,
                                      shape.rows);
          }
        }
        CHECK(std::memcmp(single.data(), got.data(), n * sizeof(float)) == 0);
      }
    }
  }
}

// Row lengths with and without whole fours, pairs and chunks of the panel kernels.
constexpr int64_t kPlainLengths[] = {1, 2, 3, 7, 16, 17, 63, 96, 255, 256, 1029, 2049};

TEST_CASE("panels of plain weights agree with the scalar kernels and do not depend on m") {
  const KernelTable& scalar = KernelsFor(IsaLevel::kScalar);
  for (const IsaLevel level : VectorLevels()) {
    for (const DType type : test::kPlainTypes) {
      const TypeKernels& kernels = KernelsFor(level).For(type);
      std::mt19937 rng(17);
      std::vector<Shape> shapes(std::begin(kShapes), std::end(kShapes));
      for (const int64_t k : kPlainLengths) shapes.push_back({21, k, 1 + k % 8});
      for (const Shape& shape : shapes) {
        const Case c(type, shape, rng, -3.0, -1.0);
        const F32Rows x{c.x.data(), shape.k, shape.m, shape.k};
        const size_t n = static_cast<size_t>(shape.rows * shape.m);
        std::vector<float> expected(n);
        std::vector<float> got(n, 1e30f);
        scalar.For(type).dot_f32(c.w, x, expected.data(), shape.rows);
        const std::vector<std::byte> panels = Panels(kernels, c.w, shape.k);
        kernels.dot_plain(panels.data(), shape.rows, x, got.data(), shape.rows);
        CAPTURE(IsaLevelName(level), Info(type).name, shape.rows, shape.k, shape.m);
        CHECK(WorstRelative(got, expected, c.magnitudes) < 2e-6);
        std::vector<float> single(n);
        for (int64_t t = 0; t < shape.m; ++t) {
          kernels.dot_plain(panels.data(), shape.rows, SliceRows(x, t, 1),
                            single.data() + t * shape.rows, shape.rows);
        }
        CHECK(std::memcmp(single.data(), got.data(), n * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("widened panels are the weights, and zero where there is no row") {
  for (const IsaLevel level : VectorLevels()) {
    for (const DType type : test::kPlainTypes) {
      const TypeKernels& kernels = KernelsFor(level).For(type);
      std::mt19937 rng(18);
      for (const int64_t k : kPlainLengths) {
        const int64_t rows = 37;  // three panels, the last not whole
        const Case c(type, {rows, k, 1}, rng, -3.0, -1.0);
        const std::vector<std::byte> panels = Panels(kernels, c.w, k);
        CAPTURE(IsaLevelName(level), Info(type).name, k);
        std::vector<float> row(static_cast<size_t>(k));
        for (const int64_t first : {int64_t{0}, k / 8 * 4}) {
          std::vector<float> wide(static_cast<size_t>((k - first) * kWideRows), 7.0f);
          kernels.widen_panels(panels.data(), kPanelRows * c.w.row_bytes, 3, k, first, k - first,
                               wide.data());
          bool same = true;
          for (int64_t r = 0; r < kWideRows; ++r) {
            std::ranges::fill(row, 0.0f);
            if (r < rows) DequantizeRow(type, c.w.data + r * c.w.row_bytes, row.data(), k);
            for (int64_t i = first; i < k; ++i) {
              same = same && wide[static_cast<size_t>((i - first) * kWideRows + r)] ==
                                 row[static_cast<size_t>(i)];
            }
          }
          CHECK(same);
        }
      }
    }
  }
}

TEST_CASE("quantised activations are the same values at every level") {
  std::mt19937 rng(13);
  const int64_t k = 6 * kGroup + 96;
  std::vector<float> x = test::RandomActivations(k, rng);
  const auto group = [&](int64_t g) { return x.begin() + g * kGroup; };
  std::fill(group(1), group(2), 0.0f);
  std::for_each(group(2), group(3), [](float& v) { v *= 1e-38f; });
  std::for_each(group(3), group(4), [](float& v) { v *= 1e37f; });
  for (int64_t i = 0; i < kGroup; ++i) group(4)[i] = static_cast<float>(i) - 127.5f;
  group(5)[40] = std::numeric_limits<float>::infinity();
  group(6)[70] = std::numeric_limits<float>::quiet_NaN();
  const Q8 expected(KernelsFor(IsaLevel::kScalar), x, 1, k);
  CHECK(expected.codes[kGroup] == 0);
  CHECK(expected.scales[2] == 0.0f);
  CHECK(std::isnan(expected.scales[5]));
  CHECK(std::isnan(expected.scales[6]));
  for (const IsaLevel level : VectorLevels()) {
    const Q8 got(KernelsFor(level), x, 1, k);
    CAPTURE(IsaLevelName(level));
    const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    CHECK(got.codes == expected.codes);
    CHECK(std::equal(got.scales.begin(), got.scales.end(), expected.scales.begin(), same));
    CHECK(got.sums == expected.sums);
  }
}

TEST_CASE("quantised activations are within half a step, and the sums are those of the codes") {
  std::mt19937 rng(14);
  const std::vector<float> x = test::RandomActivations(512, rng);
  const Q8 q(KernelsFor(IsaLevel::kScalar), x, 1, 512);
  for (size_t i = 0; i < x.size(); ++i) {
    const float scale = q.scales[i / kGroup];
    if (!(std::fabs(x[i] - scale * q.codes[i]) <= 0.5001f * scale)) {
      CAPTURE(i);
      CHECK(x[i] == scale * q.codes[i]);
    }
  }
  for (int g = 0; g < 2; ++g) {
    const int8_t* codes = q.codes.data() + g * kGroup;
    const int16_t* sums = q.sums.data() + g * kSumsPerGroup;
    for (int s = 0; s < 16; ++s) {
      CHECK(sums[s] == std::accumulate(codes + 16 * s, codes + 16 * s + 16, 0));
    }
    for (int s = 0; s < 8; ++s) {
      CHECK(sums[16 + s] == std::accumulate(codes + 32 * s, codes + 32 * s + 32, 0));
    }
  }
}

TEST_CASE("a group that is not finite makes its rows' results NaN") {
  for (const IsaLevel level : VectorLevels()) {
    const KernelTable& kernels = KernelsFor(level);
    for (const DType type : test::kQuantizedTypes) {
      std::mt19937 rng(16);
      const Case c(type, {3, 512, 2}, rng, -3.0, -1.0);
      std::vector<float> x = c.x;
      x[300] = std::numeric_limits<float>::infinity();
      const Q8 q(kernels, x, 2, 512);
      const std::vector<std::byte> panels = Panels(kernels.For(type), c.w, 512);
      std::vector<float> y(6);
      kernels.For(type).dot_panels(panels.data(), 3, q.rows, y.data(), 3);
      CAPTURE(IsaLevelName(level), Info(type).name);
      for (int r = 0; r < 3; ++r) {
        CHECK(std::isnan(y[static_cast<size_t>(r)]));
        CHECK(std::isfinite(y[static_cast<size_t>(3 + r)]));
      }
    }
  }
}

}  // namespace
}  // namespace stoker
