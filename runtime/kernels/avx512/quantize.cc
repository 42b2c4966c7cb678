#include <immintrin.h>

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/lanes.h"
#include "runtime/kernels/lanes/quantize_body.h"

namespace stoker::avx512 {
namespace {

struct Isa {
  using Lanes = avx512::Lanes;

  struct Unordered {
    __mmask16 lanes = 0;
    void Add(__m512 v) { lanes |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
    bool any() const { return lanes != 0; }
  };

  static __m512 Abs(__m512 v) { return _mm512_abs_ps(v); }
  static int Quantize(const float* x, __m512 factor, int8_t* codes) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtsepi32_epi8(q));
    return _mm512_reduce_add_epi32(q);
  }
};

}  // namespace

void QuantizeQ8(const float* x, int64_t n, int8_t* codes, float* scale, int16_t* sums) noexcept {
  QuantizeQ8Body<Isa>(x, n, codes, scale, sums);
}

}  // namespace stoker::avx512
