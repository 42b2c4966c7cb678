#pragma once

// The bodies of vector_ops.h over f32 lanes of any width: `Lanes` is the type of one instruction
// set (avx2/lanes.h, avx512/lanes.h), and the including source is compiled with its flags. Pure
// templates; contracts are in vector_ops.h.

#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/kernels/vector_ops.h"

namespace stoker {

template <typename L>
struct VectorOpsBody {
  using F32 = typename L::F32;
  static constexpr int64_t kWidth = L::kWidth;

  // exp(x) for x in [-87.33, 88.37], clamped to that range outside it; NaN stays NaN. x = n ln 2 +
  // r with ln 2 in two parts, |r| <= 0.35; the Taylor polynomial of degree 7 is off by 5e-9
  // relative there, so rounding dominates (below 2 ulp).
  static F32 Exp(F32 x) {
    x = L::Min(L::Set(88.37f), L::Max(L::Set(-87.33f), x));
    const F32 n = L::Round(L::Mul(x, L::Set(1.44269504f)));
    F32 r = L::NegMulAdd(n, L::Set(0.693359375f), x);
    r = L::NegMulAdd(n, L::Set(-2.12194440e-4f), r);
    F32 p = L::Set(1.0f / 5040.0f);
    p = L::MulAdd(p, r, L::Set(1.0f / 720.0f));
    p = L::MulAdd(p, r, L::Set(1.0f / 120.0f));
    p = L::MulAdd(p, r, L::Set(1.0f / 24.0f));
    p = L::MulAdd(p, r, L::Set(1.0f / 6.0f));
    p = L::MulAdd(p, r, L::Set(0.5f));
    p = L::MulAdd(p, r, L::Set(1.0f));
    p = L::MulAdd(p, r, L::Set(1.0f));
    return L::Mul(p, L::Exp2Integer(n));
  }

  static F32 Sigmoid(F32 x) {
    const F32 one = L::Set(1.0f);
    return L::Div(one, L::Add(one, Exp(L::Sub(L::Zero(), x))));
  }

  // out[i] = f(a[i], b[i]).
  template <typename Function>
  static void Map(const float* a, const float* b, float* out, int64_t n, Function f) {
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) L::Store(out + i, f(L::Load(a + i), L::Load(b + i)));
    if (i < n) {
      L::StoreFirst(out + i, f(L::LoadFirst(a + i, n - i), L::LoadFirst(b + i, n - i)), n - i);
    }
  }

  static void RmsNorm(const float* x, const float* gain, float eps, float* out,
                      int64_t n) noexcept {
    typename L::F64 sums[2];
    int64_t i = 0;
    for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
      sums[0].AddSquares(L::Load(x + i));
      sums[1].AddSquares(L::Load(x + i + kWidth));
    }
    for (; i + kWidth <= n; i += kWidth) sums[0].AddSquares(L::Load(x + i));
    if (i < n) sums[0].AddSquares(L::LoadFirst(x + i, n - i));
    const double mean = n > 0 ? (sums[0].Sum() + sums[1].Sum()) / static_cast<double>(n) : 0.0;
    const F32 scale =
        L::Set(static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps))));
    Map(x, gain, out, n, [scale](F32 v, F32 g) { return L::Mul(g, L::Mul(v, scale)); });
  }

  static void Silu(float* x, int64_t n) noexcept {
    Map(x, x, x, n, [](F32 v, F32) { return L::Mul(v, Sigmoid(v)); });
  }

  static void SigmoidMul(const float* gate, float* x, int64_t n) noexcept {
    Map(gate, x, x, n, [](F32 g, F32 v) { return L::Mul(v, Sigmoid(g)); });
  }

  static void SwiGlu(const float* gate, const float* up, float* out, int64_t n) noexcept {
    Map(gate, up, out, n, [](F32 g, F32 u) { return L::Mul(L::Mul(g, Sigmoid(g)), u); });
  }

  static void Axpy(float a, const float* x, float* y, int64_t n) noexcept {
    const F32 factor = L::Set(a);
    Map(x, y, y, n, [factor](F32 u, F32 v) { return L::MulAdd(factor, u, v); });
  }

  static void ScaleAdd(float a, const float* x, float b, const float* y, float* out,
                       int64_t n) noexcept {
    const F32 first = L::Set(a);
    const F32 second = L::Set(b);
    Map(x, y, out, n,
        [first, second](F32 u, F32 v) { return L::MulAdd(first, u, L::Mul(second, v)); });
  }

  static void Scale(float a, float* x, int64_t n) noexcept {
    const F32 factor = L::Set(a);
    Map(x, x, x, n, [factor](F32 v, F32) { return L::Mul(factor, v); });
  }

  static float MaxValue(const float* x, int64_t n) noexcept {
    const F32 lowest = L::Set(-std::numeric_limits<float>::infinity());
    F32 max = lowest;
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) max = L::Max(max, L::Load(x + i));
    if (i < n) max = L::Max(max, L::KeepFirst(L::LoadFirst(x + i, n - i), n - i, lowest));
    return L::Largest(max);
  }

  static void ExpSum(float* x, float max, int64_t n, float* sum) noexcept {
    const F32 shift = L::Set(max);
    F32 total = L::Zero();
    const auto exp = [shift](F32 v) {
      const F32 argument = L::Sub(v, shift);
      return L::ZeroWhereLess(Exp(argument), argument, L::Set(-87.33f));
    };
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) {
      const F32 e = exp(L::Load(x + i));
      L::Store(x + i, e);
      total = L::Add(total, e);
    }
    if (i < n) {
      const F32 e = L::KeepFirst(exp(L::LoadFirst(x + i, n - i)), n - i, L::Zero());
      L::StoreFirst(x + i, e, n - i);
      total = L::Add(total, e);
    }
    *sum = L::Sum(total);
  }

  // kRows rows of the state at a time share the loads of v and the load and store of out. The
  // first rows start the sums of out.
  template <int kRows>
  static void DecayRows(float lambda, const float* k, const float* v, const float* q, float* state,
                        float* out, int64_t d, bool first) {
    const F32 decay = L::Set(lambda);
    F32 key[kRows];
    F32 query[kRows];
    for (int r = 0; r < kRows; ++r) {
      key[r] = L::Set(k[r]);
      query[r] = L::Set(q[r]);
    }
    for (int64_t j = 0; j < d; j += kWidth) {
      const int64_t n = d - j;
      const bool whole = n >= kWidth;
      const F32 value = whole ? L::Load(v + j) : L::LoadFirst(v + j, n);
      F32 sum = first ? L::Zero() : whole ? L::Load(out + j) : L::LoadFirst(out + j, n);
      for (int r = 0; r < kRows; ++r) {
        float* p = state + r * d + j;
        const F32 old = whole ? L::Load(p) : L::LoadFirst(p, n);
        const F32 updated = L::MulAdd(decay, old, L::Mul(key[r], value));
        if (whole) {
          L::Store(p, updated);
        } else {
          L::StoreFirst(p, updated, n);
        }
        sum = L::MulAdd(query[r], updated, sum);
      }
      if (whole) {
        L::Store(out + j, sum);
      } else {
        L::StoreFirst(out + j, sum, n);
      }
    }
  }

  static void DecayOuterUpdate(float lambda, const float* k, const float* v, const float* q,
                               float* state, float* out, int64_t d) noexcept {
    int64_t i = 0;
    for (; i + 4 <= d; i += 4) {
      DecayRows<4>(lambda, k + i, v, q + i, state + i * d, out, d, i == 0);
    }
    for (; i < d; ++i) {
      DecayRows<1>(lambda, k + i, v, q + i, state + i * d, out, d, i == 0);
    }
  }

  static constexpr VectorOps Table() {
    return {
        .rms_norm = RmsNorm,
        .silu = Silu,
        .sigmoid_mul = SigmoidMul,
        .swiglu = SwiGlu,
        .axpy = Axpy,
        .scale_add = ScaleAdd,
        .scale = Scale,
        .max_value = MaxValue,
        .exp_sum = ExpSum,
        .decay_outer_update = DecayOuterUpdate,
    };
  }
};

}  // namespace stoker
