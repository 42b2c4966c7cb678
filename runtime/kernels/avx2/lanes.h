#pragma once

// Eight f32 lanes for the bodies in runtime/kernels/lanes, which are written once for every vector
// width. Only for files compiled with the AVX2, FMA and F16C flags. The same names as
// avx512/lanes.h.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace stoker::avx2 {

struct Lanes {
  static constexpr int kWidth = 8;
  using F32 = __m256;

  static F32 Zero() { return _mm256_setzero_ps(); }
  static F32 Set(float value) { return _mm256_set1_ps(value); }
  static F32 Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F32 v) { _mm256_storeu_ps(p, v); }
  static F32 LoadHalves(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // The first n (0..8) elements; lanes behind them are zero, memory behind them is not touched.
  static F32 LoadFirst(const float* p, int64_t n) { return _mm256_maskload_ps(p, Mask(n)); }
  static void StoreFirst(float* p, F32 v, int64_t n) { _mm256_maskstore_ps(p, Mask(n), v); }
  // v with `other` in the lanes from n on.
  static F32 KeepFirst(F32 v, int64_t n, F32 other) {
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(Mask(n)));
  }

  static F32 Add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
  static F32 Sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
  static F32 Mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
  static F32 Div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
  static F32 MulAdd(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }      // a b + c
  static F32 NegMulAdd(F32 a, F32 b, F32 c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a b
  // The second operand where either is NaN.
  static F32 Min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
  static F32 Max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
  static F32 Round(F32 v) {  // to nearest even
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // 2^n for integral n in [-126, 127].
  static F32 Exp2Integer(F32 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  // v, or 0 where x < limit.
  static F32 ZeroWhereLess(F32 v, F32 x, F32 limit) {
    return _mm256_and_ps(v, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ));
  }

  static float Sum(F32 v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static float Largest(F32 v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  // *total += v^2 in f64; one f64 lane holds two products.
  struct F64 {
    __m256d lanes = _mm256_setzero_pd();
    void AddSquares(F32 v) {
      const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
      const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
      lanes = _mm256_fmadd_pd(low, low, lanes);
      lanes = _mm256_fmadd_pd(high, high, lanes);
    }
    double Sum() const {
      const __m128d two =
          _mm_add_pd(_mm256_castpd256_pd128(lanes), _mm256_extractf128_pd(lanes, 1));
      return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
    }
  };

 private:
  static __m256i Mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace stoker::avx2
