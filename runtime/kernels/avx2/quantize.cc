#include <immintrin.h>

#include "runtime/kernels/avx2/kernels.h"
#include "runtime/kernels/avx2/lanes.h"
#include "runtime/kernels/lanes/quantize_body.h"

namespace stoker::avx2 {
namespace {

struct Isa {
  using Lanes = avx2::Lanes;

  struct Unordered {
    __m256 lanes = _mm256_setzero_ps();
    void Add(__m256 v) { lanes = _mm256_or_ps(lanes, _mm256_cmp_ps(v, v, _CMP_UNORD_Q)); }
    bool any() const { return _mm256_movemask_ps(lanes) != 0; }
  };

  static __m256 Abs(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
  static int Quantize(const float* x, __m256 factor, int8_t* codes) {
    const __m256i first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
    const __m256i second = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
    // Packing works per 128-bit lane and leaves the quads in the order 0 2 0 2 1 3 1 3.
    const __m256i words = _mm256_packs_epi32(first, second);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words, words),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm256_castsi256_si128(bytes));
    return Sum(_mm256_add_epi32(first, second));
  }

 private:
  static int Sum(__m256i v) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
  }
};

}  // namespace

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept {
  QuantizeQ8Body<Isa>(x, n, codes, scale, sums);
}

}  // namespace stoker::avx2
