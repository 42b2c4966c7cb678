// Integer products over panels: the loops are in lanes/panel_dot_body.h and
// lanes/panel_gemm_body.h, the register tile for many tokens is here.
//
// vpmaddubsw multiplies four columns of 8 rows with four codes of one token, broadcast; sums stay
// in 16 bits as long as they fit. A tile of 2 strips x 3 tokens fits the sixteen registers.

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
  static constexpr int kSparseBits = 8;
  static constexpr int kMaxTokens = 4;
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 3;

  // All codes are unpacked first: every vector unit is busy with the products.
  template <typename F>
  static constexpr bool kDirect = false;

  // to[s][t] += the products of a span of strip s, whose codes begin at codes[s], with token t,
  // whose codes of the span begin at x + t * x_stride, times scales[s]: i16, twice for each row.
  template <typename F, int kT>
  static STOKER_INLINE void AddProducts(const std::byte* const (&codes)[kTileStrips],
                                        const __m256i (&scales)[kTileStrips], const int8_t* x,
                                        int64_t x_stride, __m256i (&to)[kTileStrips][kT]) {
    constexpr int kRun = std::min(F::kQuads, PanelLanes::PairsIn16Bits(F::kBits));
#pragma GCC unroll 8
    for (int run = 0; run < F::kQuads; run += kRun) {
      __m256i pairs[kTileStrips][kT];
#pragma GCC unroll 8
      for (int q = run; q < run + kRun; ++q) {
        for (int s = 0; s < kTileStrips; ++s) {
          const __m256i w = PanelLanes::LoadBytes(codes[s] + q * PanelLanes::kBytes);
          for (int t = 0; t < kT; ++t) {
            const __m256i token = PanelLanes::BroadcastQuad(x + t * x_stride + 4 * q);
            const __m256i p = PanelLanes::PairProducts<F::kSigned>(w, token);
            pairs[s][t] = q == run ? p : _mm256_add_epi16(pairs[s][t], p);
            PanelLanes::KeepSum(pairs[s][t]);
          }
        }
      }
      for (int s = 0; s < kTileStrips; ++s) {
        for (int t = 0; t < kT; ++t) {
          to[s][t] = _mm256_add_epi32(to[s][t], _mm256_madd_epi16(pairs[s][t], scales[s]));
        }
      }
    }
  }

  template <typename F, int kT>
  static STOKER_INLINE void Products(const std::byte* const (&codes)[kTileStrips], const int8_t* x,
                                     int64_t x_stride, __m256i (&products)[kTileStrips][kT]) {
    for (auto& strip : products) {
      for (__m256i& token : strip) token = _mm256_setzero_si256();
    }
    const __m256i one = _mm256_set1_epi16(1);
    AddProducts<F, kT>(codes, {one, one}, x, x_stride, products);
  }

  template <typename F, int kT>
  static STOKER_INLINE void AddScaledProducts(const std::byte* const (&codes)[kTileStrips],
                                              const std::byte* const (&scales)[kTileStrips],
                                              const int8_t* x, int64_t x_stride,
                                              __m256i (&to)[kTileStrips][kT]) {
    AddProducts<F, kT>(codes,
                       {PanelLanes::LoadBytes(scales[0]), PanelLanes::LoadBytes(scales[1])}, x,
                       x_stride, to);
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
      DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS,
      DType::kInt8Row>(table);
}

}  // namespace stoker::avx2
