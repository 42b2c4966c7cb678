#pragma once

// Sixteen f32 lanes for the bodies in runtime/kernels/lanes, which are written once for every
// vector width. Only for files compiled with the AVX-512 flags. The same names as avx2/lanes.h.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace stoker::avx512 {

struct Lanes {
  static constexpr int kWidth = 16;
  using F32 = __m512;

  static F32 Zero() { return _mm512_setzero_ps(); }
  static F32 Set(float value) { return _mm512_set1_ps(value); }
  static F32 Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F32 v) { _mm512_storeu_ps(p, v); }
  static F32 LoadHalves(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  // The first n (0..16) elements; lanes behind them are zero, memory behind them is not touched.
  static F32 LoadFirst(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(Mask(n), p); }
  static void StoreFirst(float* p, F32 v, int64_t n) { _mm512_mask_storeu_ps(p, Mask(n), v); }
  // v with `other` in the lanes from n on.
  static F32 KeepFirst(F32 v, int64_t n, F32 other) {
    return _mm512_mask_mov_ps(other, Mask(n), v);
  }

  static F32 Add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
  static F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
  static F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
  static F32 Div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
  static F32 MulAdd(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }      // a b + c
  static F32 NegMulAdd(F32 a, F32 b, F32 c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
  // The second operand where either is NaN.
  static F32 Min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
  static F32 Max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
  static F32 Round(F32 v) { return _mm512_roundscale_ps(v, 0); }  // to nearest even
  // 2^n for integral n in [-126, 127].
  static F32 Exp2Integer(F32 n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  // v, or 0 where x < limit.
  static F32 ZeroWhereLess(F32 v, F32 x, F32 limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), v);
  }

  static float Sum(F32 v) { return _mm512_reduce_add_ps(v); }
  static float Largest(F32 v) { return _mm512_reduce_max_ps(v); }
  // *total += v^2 in f64; one f64 lane holds two products.
  struct F64 {
    __m512d lanes = _mm512_setzero_pd();
    void AddSquares(F32 v) {
      const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
      const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
      lanes = _mm512_fmadd_pd(low, low, lanes);
      lanes = _mm512_fmadd_pd(high, high, lanes);
    }
    double Sum() const { return _mm512_reduce_add_pd(lanes); }
  };

 private:
  static __mmask16 Mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
};

}  // namespace stoker::avx512
