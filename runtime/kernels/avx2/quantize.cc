// Activations to int8: see quantize_q8 in kernel_table.h. Every step is exact or correctly rounded
// as in the scalar version, so the values agree with it bit for bit.

#include <immintrin.h>

#include <algorithm>
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

// One sub-block of 16 of a group, as two vectors of eight.
void StoreSubBlock(__m256i first, __m256i second, float scale, int s, int8_t* codes, float* scales,
                   float* sums) {
  // Packing works per 128-bit lane and leaves the quads in the order 0 2 0 2 1 3 1 3.
  const __m256i words = _mm256_packs_epi32(first, second);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words, words),
                                                    _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + kSubBlock * s),
                   _mm256_castsi256_si128(bytes));
  scales[s] = scale;
  sums[s] = scale * static_cast<float>(Sum(_mm256_add_epi32(first, second)));
}

// The first n elements (a multiple of 32) of a group; zeros behind them.
void QuantizeGroup(const float* x, int64_t n, int8_t* codes, float* scales, float* sums) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  for (int b = 0; b < kGroup / 32; ++b) {
    __m256i q[4] = {};
    float scale = 0.0f;
    if (32 * b < n) {
      __m256 v[4];
      __m256 largest = _mm256_setzero_ps();
      __m256 unordered = _mm256_setzero_ps();
      for (int i = 0; i < 4; ++i) {
        v[i] = _mm256_loadu_ps(x + 32 * b + 8 * i);
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v[i]));
        unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v[i], v[i], _CMP_UNORD_Q));
      }
      const float max = Lanes::Largest(largest);
      if (_mm256_movemask_ps(unordered) != 0 || !(max <= std::numeric_limits<float>::max())) {
        scale = std::numeric_limits<float>::quiet_NaN();
      } else if (max >= kSmallestQ8Max) {
        scale = max / 127.0f;
        const __m256 inverse = _mm256_set1_ps(127.0f / max);
        // The conversion rounds to nearest even, the default mode.
        for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
      }
    }
    StoreSubBlock(q[0], q[1], scale, 2 * b, codes, scales, sums);
    StoreSubBlock(q[2], q[3], scale, 2 * b + 1, codes, scales, sums);
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

}  // namespace stoker::avx2
