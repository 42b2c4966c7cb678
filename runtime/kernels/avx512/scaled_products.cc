// Groups of weights for a matrix unit (scaled_group.h), and what is done with its products.

#include <immintrin.h>

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/panel_lanes.h"
#include "runtime/kernels/lanes/panel_formats.h"

namespace stoker::avx512 {
namespace {

template <DType kType>
struct ScaledProducts {
  using L = PanelLanes;
  using F = PanelFormat<L, kType>;
  static constexpr PanelTile kTile = F::kTile;
  // INT8 has no scales within a row: its codes are the plane.
  static constexpr bool kScaled = F::kSuperBlock;
  static_assert(kScaled || kType == DType::kInt8Row);

  // Q2_K: at most 15 * 3. Q3_K: scales of [-32, 31] times codes of [-4, 3] are [-124, 128], which
  // an int8 holds with the other sign; d then changes its own, which rounds nothing.
  static constexpr bool kNegated = kType == DType::kQ3_K;
  static constexpr int kPlanes = kType == DType::kQ2_K || kNegated || !kScaled ? 1 : 2;
  static constexpr int kPairs = kScaled ? kTile.spans() / 2 : 1;

  // The scales of sixteen rows as i16, four times each, in the order of unpack{lo,hi}_epi8 of a
  // quad.
  struct Scales {
    __m512i low, high;
  };
  static STOKER_INLINE Scales LoadScales(const int8_t* scales) {
    const __m512i wide =
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
    const __m512i twice = _mm512_mask_blend_epi16(0xaaaaaaaau, wide, _mm512_slli_epi32(wide, 16));
    return {_mm512_unpacklo_epi32(twice, twice), _mm512_unpackhi_epi32(twice, twice)};
  }

  // Codes times scales, both i16.
  static STOKER_INLINE __m512i Scaled(__m512i codes, __m512i scale) {
    if constexpr (F::kOffset != 0) codes = _mm512_sub_epi16(codes, _mm512_set1_epi16(F::kOffset));
    if constexpr (kNegated) {
      return _mm512_mullo_epi16(_mm512_sub_epi16(_mm512_setzero_si512(), codes), scale);
    } else {
      return _mm512_mullo_epi16(codes, scale);
    }
  }

  // Span kSpan of a record, span `span` of the group, to one panel's rows of `to`; sums[plane] +=
  // those of each row.
  template <int kSpan>
  static STOKER_INLINE void ScaleSpan(const std::byte* record, const ScaleRows& rows, int span,
                                      int64_t panel, ScaledGroup* to, __m512i (&sums)[kPlanes]) {
    const Scales scales = LoadScales(rows.scale[kSpan]);
    __m512i quads[F::kQuads];
    F::template LoadCodes<kSpan>(record, 0, quads);
    const __m512i zero = _mm512_setzero_si512();
    const __m512i ones = _mm512_set1_epi8(1);
    for (int q = 0; q < F::kQuads; ++q) {
      const __m512i low = Scaled(_mm512_unpacklo_epi8(quads[q], zero), scales.low);
      const __m512i high = Scaled(_mm512_unpackhi_epi8(quads[q], zero), scales.high);
      __m512i planes[kPlanes];
      if constexpr (kPlanes == 1) {
        planes[0] = _mm512_packs_epi16(low, high);
      } else {
        const __m512i rest = _mm512_set1_epi16(kPlaneFactor - 1);
        planes[0] = _mm512_packs_epi16(_mm512_srai_epi16(low, 7), _mm512_srai_epi16(high, 7));
        planes[1] =
            _mm512_packs_epi16(_mm512_and_si512(low, rest), _mm512_and_si512(high, rest));
      }
      for (int plane = 0; plane < kPlanes; ++plane) {
        _mm512_store_si512(to->planes[plane][span * F::kQuads + q][panel * kPanelRows],
                           planes[plane]);
        sums[plane] = _mm512_dpbusd_epi32(sums[plane], ones, planes[plane]);
      }
    }
    if constexpr (F::kHasMinimum && kSpan % 2 == 0) {
      _mm512_store_si512(to->minima[panel][span / 2],
                         L::LoadPairs(rows.minimum[kSpan], rows.minimum[kSpan + 1]));
    }
  }

  // A group of one panel to its rows of `to`; sums[plane] += those of each row.
  static STOKER_INLINE void ScaleTile(const std::byte* tile, int64_t panel, ScaledGroup* to,
                                      __m512i (&sums)[kPlanes]) {
    const std::byte* record = tile + kTile.head_bytes();
    for (int r = 0; r < kTile.records(); ++r, record += kTile.record_bytes()) {
      ScaleRows rows;
      F::LoadScales(record, &rows);
      ScaleSpan<0>(record, rows, 4 * r, panel, to, sums);
      ScaleSpan<1>(record, rows, 4 * r + 1, panel, to, sums);
      ScaleSpan<2>(record, rows, 4 * r + 2, panel, to, sums);
      ScaleSpan<3>(record, rows, 4 * r + 3, panel, to, sums);
    }
  }

  // The same of codes without scales: their quads lie one behind the other.
  static STOKER_INLINE void CopyCodes(const std::byte* tile, int64_t panel, ScaledGroup* to,
                                      __m512i (&sums)[kPlanes]) {
    const __m512i ones = _mm512_set1_epi8(1);
    for (int64_t quad = 0; quad < kGroup / 4; ++quad) {
      const __m512i codes = L::LoadBytes(tile + quad * kQuadBytes);
      _mm512_store_si512(to->planes[0][quad][panel * kPanelRows], codes);
      sums[0] = _mm512_dpbusd_epi32(sums[0], ones, codes);
    }
  }

  // Plane 0 times 128 plus plane 1.
  static STOKER_INLINE __m512i Joined(const __m512i (&planes)[kPlanes]) {
    if constexpr (kPlanes == 1) return planes[0];
    return _mm512_add_epi32(_mm512_slli_epi32(planes[0], 7), planes[kPlanes - 1]);
  }
  static_assert(kPlaneFactor == 1 << 7 && kCodeOffset == 1 << 7);

  // See TypeKernels::scale_panels.
  static void ScalePanels(const std::byte* tile, int64_t panel_bytes, int64_t n_panels,
                          ScaledGroup* to) noexcept {
    for (int64_t panel = 0; panel < n_panels; ++panel, tile += panel_bytes) {
      const typename F::Head head = F::LoadHead(tile, 0);
      L::Store(to->d + panel * kPanelRows, kNegated ? L::Negate(head.d) : head.d);
      if constexpr (F::kHasMinimum) L::Store(to->minimum + panel * kPanelRows, head.minimum);
      __m512i sums[kPlanes] = {};
      if constexpr (kScaled) {
        ScaleTile(tile, panel, to, sums);
      } else {
        CopyCodes(tile, panel, to, sums);
      }
      _mm512_store_si512(to->offset + panel * kPanelRows, _mm512_slli_epi32(Joined(sums), 7));
    }
  }

  // See TypeKernels::add_scaled.
  static void AddScaled(const ScaledGroup& w, const int32_t* products, int64_t plane_stride,
                        const Q8Rows& x, int64_t group, float* totals,
                        int64_t totals_stride) noexcept {
    for (int64_t row = 0; row < kScaledRows; row += kPanelRows) {
      AddPanel(w, row, products + row, plane_stride, x, group, totals + row, totals_stride);
    }
  }

 private:
  static void AddPanel(const ScaledGroup& w, int64_t row, const int32_t* products,
                       int64_t plane_stride, const Q8Rows& x, int64_t group, float* totals,
                       int64_t totals_stride) {
    const __m512i offset = _mm512_load_si512(w.offset + row);
    typename F::Head head;
    head.d = L::Load(w.d + row);
    __m512i minima[kPairs];
    if constexpr (F::kHasMinimum) {
      head.minimum = L::Load(w.minimum + row);
      for (int i = 0; i < kPairs; ++i) {
        minima[i] = _mm512_load_si512(w.minima[row / kPanelRows][i]);
      }
    }
    const int16_t* sums = x.sums + group * kSumsPerGroup + F::kFirstSum;
    const float* scales = x.scales + group;
    for (int64_t t = 0; t < x.m; ++t) {
      __m512i planes[kPlanes];
      for (int plane = 0; plane < kPlanes; ++plane) {
        planes[plane] = _mm512_load_si512(products + plane * plane_stride);
      }
      const __m512 product = L::ToF32(_mm512_sub_epi32(Joined(planes), offset));
      __m512 result;
      if constexpr (F::kHasMinimum) {
        __m512i scaled_sums = _mm512_setzero_si512();
        for (int i = 0; i < kPairs; ++i) {
          scaled_sums = L::AddPairs(scaled_sums, minima[i], sums + 2 * i);
        }
        result = F::SuperBlock(head, product, scaled_sums);
      } else {
        result = L::Mul(head.d, product);
      }
      const __m512 total = group == 0 ? L::Zero() : L::Load(totals);
      L::Store(totals, L::MulAdd(L::Set(*scales), result, total));
      products += kScaledRows;
      sums += x.sum_stride;
      scales += x.scale_stride;
      totals += totals_stride;
    }
  }
};

template <DType... kTypes>
void Add(KernelTable* table) {
  ((table->For(kTypes).planes = ScaledProducts<kTypes>::kPlanes,
    table->For(kTypes).scale_panels = ScaledProducts<kTypes>::ScalePanels,
    table->For(kTypes).add_scaled = ScaledProducts<kTypes>::AddScaled),
   ...);
}

}  // namespace

void AddScaledProducts(KernelTable* table) {
  Add<DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_XS,
      DType::kInt8Row>(table);
}

}  // namespace stoker::avx512
