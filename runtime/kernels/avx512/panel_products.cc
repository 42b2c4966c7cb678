// Integer products over panels: the loops are in lanes/panel_dot_body.h and
// lanes/panel_gemm_body.h, the register tile for many tokens is here.
//
// vpdpbusd multiplies four columns of 16 rows with four codes of one token, broadcast. A tile of
// 2 strips x 6 tokens keeps 12 integer and 12 f32 accumulators.

#include <immintrin.h>

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/panel_lanes.h"
#include "runtime/kernels/lanes/panel_dot_body.h"
#include "runtime/kernels/lanes/panel_gemm_body.h"
#include "runtime/kernels/lanes/panel_repack_body.h"

namespace stoker::avx512 {
namespace {

struct Isa {
  using Lanes = PanelLanes;
  static constexpr int kMaxTokens = 8;
  static constexpr int kDenseBitsPerToken = 4;
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 6;

  template <DType kType, int kT, typename Strip, typename Sides>
  __attribute__((noinline)) static void MultiplyTile(const Strip* strips, const Sides& sides,
                                                     const int8_t* x, int64_t x_stride,
                                                     int64_t n_blocks, bool first, float* y,
                                                     int64_t y_stride, int64_t n_rows) {
    using F = PanelFormat<PanelLanes, kType>;
    constexpr int kQuads = F::kQuads;
    __mmask16 masks[2];
    __m512 total[2][kT];
    for (int s = 0; s < 2; ++s) {
      const int64_t rows = n_rows - 16 * s;
      masks[s] = rows >= 16  ? static_cast<__mmask16>(0xffffu)
                 : rows <= 0 ? static_cast<__mmask16>(0)
                             : static_cast<__mmask16>((1u << rows) - 1u);
      for (int t = 0; t < kT; ++t) {
        total[s][t] = first ? _mm512_setzero_ps()
                            : _mm512_maskz_loadu_ps(masks[s], y + t * y_stride + 16 * s);
      }
    }
    for (int64_t b = 0; b < n_blocks; ++b) {
      __m512i product[2][kT];
      for (auto& strip : product) {
        for (__m512i& token : strip) token = _mm512_setzero_si512();
      }
      const int8_t* block = x + b * (4 * kQuads);
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) {
        const int64_t quad = b * kQuads + q;
        const __m512i w0 = _mm512_load_si512(strips[0].codes + quad * 64);
        const __m512i w1 = _mm512_load_si512(strips[1].codes + quad * 64);
        for (int t = 0; t < kT; ++t) {
          const __m512i token = PanelLanes::BroadcastQuad(block + t * x_stride + 4 * q);
          product[0][t] = _mm512_dpbusd_epi32(product[0][t], w0, token);
          product[1][t] = _mm512_dpbusd_epi32(product[1][t], w1, token);
        }
      }
      for (int s = 0; s < 2; ++s) {
        const __m512 scale = _mm512_load_ps(strips[s].scale + b * 16);
        for (int t = 0; t < kT; ++t) {
          const __m512 sum = _mm512_cvtepi32_ps(product[s][t]);
          const __m512 x_scale = _mm512_set1_ps(sides.scale[b * kT + t]);
          const __m512 x_sum = _mm512_set1_ps(sides.sum[b * kT + t]);
          if constexpr (F::kHasMinimum) {
            total[s][t] = _mm512_fmadd_ps(_mm512_mul_ps(sum, x_scale), scale, total[s][t]);
            total[s][t] =
                _mm512_fmadd_ps(_mm512_load_ps(strips[s].add + b * 16), x_sum, total[s][t]);
          } else {
            total[s][t] = _mm512_fmadd_ps(_mm512_fmadd_ps(sum, x_scale, x_sum), scale, total[s][t]);
          }
        }
      }
    }
    for (int s = 0; s < 2; ++s) {
      for (int t = 0; t < kT; ++t) {
        _mm512_mask_storeu_ps(y + t * y_stride + 16 * s, masks[s], total[s][t]);
      }
    }
  }
};

template <DType... kTypes>
void Add(KernelTable* table) {
  PanelDotBody<Isa>::AddAll<kTypes...>(table);
  PanelGemmBody<Isa>::AddAll<kTypes...>(table);
  AddPanelRepack<PanelLanes, kTypes...>(table);
}

}  // namespace

void AddPanelProducts(KernelTable* table) {
  Add<DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,
      DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS>(
      table);
}

}  // namespace stoker::avx512
