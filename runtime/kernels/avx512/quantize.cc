// Activations to int8: see quantize_q8 in kernel_table.h. Every step is exact or correctly rounded
// as in the scalar version, so the values agree with it bit for bit.

#include <immintrin.h>

#include <limits>

#include "runtime/kernels/avx512/kernels.h"

namespace stoker::avx512 {

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept {
  __m512 largest = _mm512_setzero_ps();
  __mmask16 unordered = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 v = _mm512_loadu_ps(x + i);
    largest = _mm512_max_ps(largest, _mm512_abs_ps(v));
    unordered |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  }
  const float max = _mm512_reduce_max_ps(largest);
  const bool finite = unordered == 0 && max <= std::numeric_limits<float>::max();
  const bool zero = !finite || max < kSmallestQ8Max;
  *scale = !finite ? std::numeric_limits<float>::quiet_NaN() : zero ? 0.0f : max / 127.0f;
  const __m512 inverse = _mm512_set1_ps(zero ? 0.0f : 127.0f / max);
  for (int s = 0; s < kSubBlocksPerGroup; ++s) {
    __m512i q = _mm512_setzero_si512();
    // The conversion rounds to nearest even, the default mode.
    if (!zero && kSubBlock * s < n) {
      q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + kSubBlock * s), inverse));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + kSubBlock * s), _mm512_cvtsepi32_epi8(q));
    sums[s] = static_cast<int16_t>(_mm512_reduce_add_epi32(q));
  }
  for (int s = 0; s < kSubBlocksPerGroup; s += 2) {
    sums[kSubBlocksPerGroup + s / 2] = static_cast<int16_t>(sums[s] + sums[s + 1]);
  }
}

}  // namespace stoker::avx512
