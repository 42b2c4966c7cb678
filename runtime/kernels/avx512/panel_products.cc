// Integer products over panels: the loops are in lanes/panel_dot_body.h and
// lanes/panel_gemm_body.h, the register tile for many tokens is here.
//
// vpdpbusd multiplies four columns of 16 rows with four codes of one token, broadcast. A tile of
// 2 strips x 6 tokens keeps 12 sums of a span and 12 of a group.

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
  static constexpr int kSparseBits = 4;
  static constexpr int kMaxTokens = 8;
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 6;

  // Whether the codes of a format are taken from the panels as they are: their unpacking keeps to
  // units that vpdpbusd leaves free, and half of the loads or more are saved.
  template <typename F>
  static constexpr bool kDirect = F::kNibbles || F::kTile.low_bits == 8;

  // products[s][t] = the products of a span of strip s, whose codes begin at codes[s], with token
  // t, whose codes of the span begin at x + t * x_stride.
  template <typename F, int kT>
  static STOKER_INLINE void Products(const std::byte* const (&codes)[kTileStrips], const int8_t* x,
                                     int64_t x_stride, __m512i (&products)[kTileStrips][kT]) {
    for (auto& strip : products) {
      for (__m512i& token : strip) token = _mm512_setzero_si512();
    }
    const auto add = [&](__m512i w0, __m512i w1, int q) STOKER_INLINE_LAMBDA {
      for (int t = 0; t < kT; ++t) {
        const __m512i token = PanelLanes::BroadcastQuad(x + t * x_stride + 4 * q);
        products[0][t] = _mm512_dpbusd_epi32(products[0][t], w0, token);
        products[1][t] = _mm512_dpbusd_epi32(products[1][t], w1, token);
      }
    };
    if constexpr (F::kNibbles) {
#pragma GCC unroll 4
      for (int v = 0; v < F::kQuads / 2; ++v) {
        const __m512i both0 = PanelLanes::LoadBytes(codes[0] + v * kQuadBytes);
        const __m512i both1 = PanelLanes::LoadBytes(codes[1] + v * kQuadBytes);
        add(PanelLanes::Bits<0>(both0, 15), PanelLanes::Bits<0>(both1, 15), v);
        add(PanelLanes::Bits<4>(both0, 15), PanelLanes::Bits<4>(both1, 15), F::kQuads / 2 + v);
      }
    } else {
#pragma GCC unroll 8
      for (int q = 0; q < F::kQuads; ++q) {
        const __m512i w0 = PanelLanes::LoadBytes(codes[0] + q * kQuadBytes);
        const __m512i w1 = PanelLanes::LoadBytes(codes[1] + q * kQuadBytes);
        if constexpr (kDirect<F>) {
          add(PanelLanes::EightBitCodes(w0), PanelLanes::EightBitCodes(w1), q);
        } else {
          add(w0, w1, q);
        }
      }
    }
  }

  // to[s][t] += these products times the scales of the strip's rows.
  template <typename F, int kT>
  static STOKER_INLINE void AddScaledProducts(const std::byte* const (&codes)[kTileStrips],
                                              const std::byte* const (&scales)[kTileStrips],
                                              const int8_t* x, int64_t x_stride,
                                              __m512 (&to)[kTileStrips][kT]) {
    __m512i products[kTileStrips][kT];
    Products<F, kT>(codes, x, x_stride, products);
    for (int s = 0; s < kTileStrips; ++s) {
      const __m512 scale = _mm512_load_ps(scales[s]);
      for (int t = 0; t < kT; ++t) {
        to[s][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[s][t]), scale, to[s][t]);
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
      DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS,
      DType::kInt8Row>(table);
}

}  // namespace stoker::avx512
