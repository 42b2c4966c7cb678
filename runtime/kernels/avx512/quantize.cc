// Activations to int8: see quantize_q8 in kernel_table.h. Every step is exact or correctly rounded
// as in the scalar version, so the values agree with it bit for bit.

#include <immintrin.h>

#include <algorithm>
#include <limits>

#include "runtime/kernels/avx512/kernels.h"

namespace stoker::avx512 {
namespace {

// One sub-block of 16 of a group.
void StoreSubBlock(__m512i q, float scale, int s, int8_t* codes, float* scales, float* sums) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + kSubBlock * s), _mm512_cvtsepi32_epi8(q));
  scales[s] = scale;
  sums[s] = scale * static_cast<float>(_mm512_reduce_add_epi32(q));
}

// The first n elements (a multiple of 32) of a group; zeros behind them.
void QuantizeGroup(const float* x, int64_t n, int8_t* codes, float* scales, float* sums) {
  for (int b = 0; b < kGroup / 32; ++b) {
    __m512i low = _mm512_setzero_si512();
    __m512i high = _mm512_setzero_si512();
    float scale = 0.0f;
    if (32 * b < n) {
      const __m512 x_low = _mm512_loadu_ps(x + 32 * b);
      const __m512 x_high = _mm512_loadu_ps(x + 32 * b + 16);
      const float max =
          _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x_low), _mm512_abs_ps(x_high)));
      const bool finite = _mm512_cmp_ps_mask(x_low, x_high, _CMP_UNORD_Q) == 0 &&
                          max <= std::numeric_limits<float>::max();
      if (!finite) {
        scale = std::numeric_limits<float>::quiet_NaN();
      } else if (max >= kSmallestQ8Max) {
        scale = max / 127.0f;
        const __m512 inverse = _mm512_set1_ps(127.0f / max);
        // The conversion rounds to nearest even, the default mode.
        low = _mm512_cvtps_epi32(_mm512_mul_ps(x_low, inverse));
        high = _mm512_cvtps_epi32(_mm512_mul_ps(x_high, inverse));
      }
    }
    StoreSubBlock(low, scale, 2 * b, codes, scales, sums);
    StoreSubBlock(high, scale, 2 * b + 1, codes, scales, sums);
  }
}

}  // namespace

void QuantizeQ8(const float* x, int64_t n, int64_t padded_n, int8_t* codes, float* scales,
                float* sums) noexcept {
  for (int64_t i = 0; i < padded_n; i += kGroup) {
    QuantizeGroup(x + i, std::min(kGroup, n - i), codes + i, scales + i / kSubBlock,
                  sums + i / kSubBlock);
  }
}

}  // namespace stoker::avx512
