// Vector operations of every level against the scalar specification, which is itself checked
// against f64: all lengths around the vector widths, unaligned, and nothing written behind the end.

#include "runtime/kernels/vector_ops.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr float kGuard = 12345.5f;
constexpr int64_t kLengths[] = {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 128, 257, 6144};

// n random values at an odd float offset, with a guard behind them.
struct Vector {
  std::vector<float> storage;
  int64_t n;

  Vector(int64_t length, std::mt19937& rng) : n(length) {
    storage = test::RandomActivations(length + 2, rng);
    storage.back() = kGuard;
  }
  float* data() { return storage.data() + 1; }
  float operator[](int64_t i) const { return storage[static_cast<size_t>(i + 1)]; }
  bool guarded() const { return storage.back() == kGuard; }
};

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

bool Near(double got, double expected, double relative, double absolute = 1e-35) {
  return std::fabs(got - expected) <= relative * std::fabs(expected) + absolute;
}

TEST_CASE("element-wise operations") {
  for (const IsaLevel level : test::Levels()) {
    const VectorOps& ops = VectorOpsFor(level);
    std::mt19937 rng(21);
    for (const int64_t n : kLengths) {
      CAPTURE(IsaLevelName(level), n);
      const Vector a(n, rng);
      const Vector b(n, rng);
      Vector silu = a;
      Vector gated = a;
      Vector swiglu = a;
      Vector axpy = a;
      Vector sum = a;
      Vector scaled = a;
      ops.silu(silu.data(), n);
      ops.sigmoid_mul(Vector(b).data(), gated.data(), n);
      ops.swiglu(Vector(a).data(), Vector(b).data(), swiglu.data(), n);
      ops.axpy(-1.5f, Vector(b).data(), axpy.data(), n);
      ops.scale_add(0.75f, Vector(a).data(), 3.5f, Vector(b).data(), sum.data(), n);
      ops.scale(0.1f, scaled.data(), n);
      int64_t wrong = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double x = a[i];
        const double y = b[i];
        const double size = std::fabs(x) + std::fabs(y);
        wrong += !Near(silu[i], x * Sigmoid(x), 4e-7);
        wrong += !Near(gated[i], x * Sigmoid(y), 4e-7);
        wrong += !Near(swiglu[i], x * Sigmoid(x) * y, 5e-7);
        wrong += !Near(axpy[i], x - 1.5 * y, 0.0, 3e-7 * size);
        wrong += !Near(sum[i], 0.75 * x + 3.5 * y, 0.0, 6e-7 * size);
        wrong += !Near(scaled[i], static_cast<double>(0.1f) * x, 1e-7);
      }
      CHECK(wrong == 0);
      CHECK((silu.guarded() && gated.guarded() && swiglu.guarded() && axpy.guarded() &&
             sum.guarded() && scaled.guarded()));
    }
  }
}

TEST_CASE("reductions and RMSNorm") {
  for (const IsaLevel level : test::Levels()) {
    const VectorOps& ops = VectorOpsFor(level);
    std::mt19937 rng(22);
    for (const int64_t n : kLengths) {
      CAPTURE(IsaLevelName(level), n);
      Vector a(n, rng);
      Vector b(n, rng);
      double squares = 0.0;
      float max = -std::numeric_limits<float>::infinity();
      for (int64_t i = 0; i < n; ++i) {
        squares += static_cast<double>(a[i]) * a[i];
        max = std::max(max, a[i]);
      }
      CHECK(ops.max_value(a.data(), n) == max);
      Vector out(n, rng);
      ops.rms_norm(a.data(), b.data(), 1e-5f, out.data(), n);
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-5f);
      int64_t wrong = 0;
      for (int64_t i = 0; i < n; ++i) wrong += !Near(out[i], b[i] * (a[i] * scale), 2.5e-7);
      CHECK(wrong == 0);
      CHECK(out.guarded());
    }
  }
}

TEST_CASE("exp and its sum") {
  for (const IsaLevel level : test::Levels()) {
    const VectorOps& ops = VectorOpsFor(level);
    CAPTURE(IsaLevelName(level));
    std::vector<float> x;
    for (float v = -87.3f; v <= 0.0f; v += 0.0107f) x.push_back(v);
    std::vector<float> e = x;
    float sum = 0.0f;
    ops.exp_sum(e.data(), 0.0f, static_cast<int64_t>(e.size()), &sum);
    double worst = 0.0;
    double total = 0.0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      worst = std::max(worst, std::fabs(e[i] - exact) / exact);
      total += exact;
    }
    CHECK(worst < 2.4e-7);  // two units in the last place
    CHECK(Near(sum, total, 1e-6));
    // Masked positions, far below, and the shift by the maximum; also a partial vector.
    for (const int64_t n : {3, 20}) {
      std::vector<float> y(static_cast<size_t>(n), -std::numeric_limits<float>::infinity());
      y[0] = 100.0f;
      y[1] = 99.0f;
      y[2] = -1000.0f;
      ops.exp_sum(y.data(), 100.0f, n, &sum);
      CHECK(y[0] == 1.0f);
      CHECK(Near(y[1], std::exp(-1.0), 2.4e-7));
      for (size_t i = 2; i < y.size(); ++i) CHECK(y[i] == 0.0f);
      CHECK(Near(sum, 1.0 + std::exp(-1.0), 2.4e-7));
    }
  }
}

TEST_CASE("sigmoid-based functions at the ends of the range, and NaN") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const IsaLevel level : test::Levels()) {
    const VectorOps& ops = VectorOpsFor(level);
    CAPTURE(IsaLevelName(level));
    std::vector<float> x = {0.0f, -0.0f, 200.0f, -200.0f, 3e38f, -3e38f, 1e-30f,
                            std::numeric_limits<float>::quiet_NaN(), infinity};
    ops.silu(x.data(), static_cast<int64_t>(x.size()));
    CHECK(x[0] == 0.0f);
    CHECK(x[1] == 0.0f);
    CHECK(x[2] == 200.0f);
    CHECK(std::fabs(x[3]) < 1e-35f);
    CHECK(x[4] == 3e38f);
    CHECK(std::isfinite(x[5]));
    CHECK(Near(x[6], 0.5e-30, 1e-6));
    CHECK(std::isnan(x[7]));
    CHECK(x[8] == infinity);
  }
}

TEST_CASE("one step of the lightning recurrence") {
  for (const IsaLevel level : test::Levels()) {
    const VectorOps& ops = VectorOpsFor(level);
    std::mt19937 rng(23);
    for (const int64_t d : {1, 4, 6, 8, 16, 19, 64, 128}) {
      CAPTURE(IsaLevelName(level), d);
      Vector k(d, rng);
      Vector v(d, rng);
      Vector q(d, rng);
      Vector state(d * d, rng);
      const Vector before = state;
      Vector out(d, rng);
      ops.decay_outer_update(0.9f, k.data(), v.data(), q.data(), state.data(), out.data(), d);
      int64_t wrong = 0;
      for (int64_t j = 0; j < d; ++j) {
        double sum = 0.0;
        double size = 0.0;
        for (int64_t i = 0; i < d; ++i) {
          const double s = static_cast<double>(0.9f) * before[i * d + j] +
                           static_cast<double>(k[i]) * v[j];
          wrong += !Near(state[i * d + j], s, 0.0,
                         3e-7 * (std::fabs(before[i * d + j]) + std::fabs(k[i] * v[j])));
          sum += q[i] * s;
          size += std::fabs(q[i]) * (std::fabs(before[i * d + j]) + std::fabs(k[i] * v[j]));
        }
        wrong += !Near(out[j], sum, 0.0, 2e-6 * size);
      }
      CHECK(wrong == 0);
      CHECK((state.guarded() && out.guarded()));
    }
  }
}

}  // namespace
}  // namespace stoker
