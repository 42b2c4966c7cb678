// Activations to int8: see quantize_q8 in kernel_table.h. Every step is exact or correctly rounded
// as in the scalar version, so the values agree with it bit for bit.

#include <immintrin.h>

#include <limits>

#include "runtime/kernels/avx2/kernels.h"
#include "runtime/kernels/avx2/lanes.h"

namespace stoker::avx2 {
namespace {

int Sum(__m256i v) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Sixteen values as two vectors of eight.
__m128i Bytes(__m256i first, __m256i second) {
  // Packing works per 128-bit lane and leaves the quads in the order 0 2 0 2 1 3 1 3.
  const __m256i words = _mm256_packs_epi32(first, second);
  return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(
      _mm256_packs_epi16(words, words), _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5)));
}

}  // namespace

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 largest = _mm256_setzero_ps();
  __m256 unordered = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v));
    unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  }
  const float max = Lanes::Largest(largest);
  const bool finite =
      _mm256_movemask_ps(unordered) == 0 && max <= std::numeric_limits<float>::max();
  const bool zero = !finite || max < kSmallestQ8Max;
  *scale = !finite ? std::numeric_limits<float>::quiet_NaN() : zero ? 0.0f : max / 127.0f;
  const __m256 inverse = _mm256_set1_ps(zero ? 0.0f : 127.0f / max);
  for (int s = 0; s < kSubBlocksPerGroup; ++s) {
    __m256i q[2] = {};
    for (int half = 0; half < 2 && !zero && kSubBlock * s < n; ++half) {
      // The conversion rounds to nearest even, the default mode.
      const __m256 v = _mm256_loadu_ps(x + kSubBlock * s + 8 * half);
      q[half] = _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + kSubBlock * s), Bytes(q[0], q[1]));
    sums[s] = static_cast<int16_t>(Sum(_mm256_add_epi32(q[0], q[1])));
  }
  for (int s = 0; s < kSubBlocksPerGroup; s += 2) {
    sums[kSubBlocksPerGroup + s / 2] = static_cast<int16_t>(sums[s] + sums[s + 1]);
  }
}

}  // namespace stoker::avx2
