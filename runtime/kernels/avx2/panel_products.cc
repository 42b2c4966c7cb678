// Integer products over panels: the loops are in lanes/panel_dot_body.h and
// lanes/panel_gemm_body.h, the register tile for many tokens is here.
//
// vpmaddubsw multiplies four columns of 8 rows with four codes of one token, broadcast; sums stay
// in 16 bits as long as they fit. A tile of 2 strips x 2 tokens fits the sixteen registers.

#include <immintrin.h>

#include <algorithm>

#include "runtime/kernels/avx2/kernels.h"
#include "runtime/kernels/avx2/panel_lanes.h"
#include "runtime/kernels/lanes/panel_dot_body.h"
#include "runtime/kernels/lanes/panel_gemm_body.h"
#include "runtime/kernels/lanes/panel_repack_body.h"

namespace stoker::avx2 {
namespace {

struct Isa {
  using Lanes = PanelLanes;
  static constexpr int kMaxTokens = 4;
  static constexpr int kDenseBitsPerToken = 8;
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 2;

  template <DType kType, int kT, typename Strip, typename Sides>
  __attribute__((noinline)) static void MultiplyTile(const Strip* strips, const Sides& sides,
                                                     const int8_t* x, int64_t x_stride,
                                                     int64_t n_blocks, bool first, float* y,
                                                     int64_t y_stride, int64_t n_rows) {
    using F = PanelFormat<PanelLanes, kType>;
    constexpr int kQuads = F::kQuads;
    constexpr int kRun = std::min(kQuads, PanelLanes::PairsIn16Bits(F::kBits));
    const __m256i ones = _mm256_set1_epi16(1);
    int64_t rows[2];
    __m256 total[2][kT];
    for (int s = 0; s < 2; ++s) {
      rows[s] = std::clamp<int64_t>(n_rows - 8 * s, 0, 8);
      for (int t = 0; t < kT; ++t) {
        total[s][t] =
            first ? PanelLanes::Zero() : PanelLanes::LoadFirst(y + t * y_stride + 8 * s, rows[s]);
      }
    }
    for (int64_t b = 0; b < n_blocks; ++b) {
      __m256i product[2][kT];
      const int8_t* block = x + b * (4 * kQuads);
#pragma GCC unroll 8
      for (int run = 0; run < kQuads; run += kRun) {
        __m256i pairs[2][kT];
#pragma GCC unroll 8
        for (int q = run; q < run + kRun; ++q) {
          for (int s = 0; s < 2; ++s) {
            const __m256i w = PanelLanes::LoadBytes(strips[s].codes + (b * kQuads + q) * 32);
            for (int t = 0; t < kT; ++t) {
              const __m256i token = PanelLanes::BroadcastQuad(block + t * x_stride + 4 * q);
              const __m256i p = PanelLanes::PairProducts<F::kSigned>(w, token);
              pairs[s][t] = q == run ? p : _mm256_add_epi16(pairs[s][t], p);
            }
          }
        }
        for (int s = 0; s < 2; ++s) {
          for (int t = 0; t < kT; ++t) {
            const __m256i wide = _mm256_madd_epi16(pairs[s][t], ones);
            product[s][t] = run == 0 ? wide : _mm256_add_epi32(product[s][t], wide);
          }
        }
      }
      for (int s = 0; s < 2; ++s) {
        const __m256 scale = _mm256_load_ps(strips[s].scale + b * 8);
        for (int t = 0; t < kT; ++t) {
          const __m256 sum = _mm256_cvtepi32_ps(product[s][t]);
          const __m256 x_scale = _mm256_set1_ps(sides.scale[b * kT + t]);
          const __m256 x_sum = _mm256_set1_ps(sides.sum[b * kT + t]);
          if constexpr (F::kHasMinimum) {
            total[s][t] = _mm256_fmadd_ps(_mm256_mul_ps(sum, x_scale), scale, total[s][t]);
            total[s][t] =
                _mm256_fmadd_ps(_mm256_load_ps(strips[s].add + b * 8), x_sum, total[s][t]);
          } else if constexpr (F::kOffset != 0.0f) {
            total[s][t] = _mm256_fmadd_ps(_mm256_fmadd_ps(sum, x_scale, x_sum), scale, total[s][t]);
          } else {
            total[s][t] = _mm256_fmadd_ps(_mm256_mul_ps(sum, x_scale), scale, total[s][t]);
          }
        }
      }
    }
    for (int s = 0; s < 2; ++s) {
      for (int t = 0; t < kT; ++t) {
        PanelLanes::StoreFirst(y + t * y_stride + 8 * s, total[s][t], rows[s]);
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

}  // namespace stoker::avx2
