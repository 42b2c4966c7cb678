// Few tokens on integer activations: y = W x with vpdpbusd.
//
// Types: u8 weight codes x s8 activation codes -> i32 per 16 elements (exact), f32 scales, f32
// accumulation in 16 lanes. Any alignment; a tail shorter than 256 elements is padded with zeros.
// Tolerance against scalar: 1e-5 of sum |w x|. A row is streamed from memory once per eight tokens
// and unpacked in registers.

#include <algorithm>

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/q8_layout.h"
#include "runtime/kernels/avx512/unpack.h"

namespace stoker::avx512 {
namespace {

// Bytes ahead of the load to ask for. The hardware prefetcher stops at page ends, where a row of
// quantised weights usually continues.
constexpr int64_t kPrefetchBytes = 1024;

// Tokens that share one unpacking: with two rows, 16 accumulators and 12 vectors of weights.
constexpr int kTileTokens = 8;

// Tokens from which on rows are taken in pairs.
constexpr int kPairTokens = 5;

// From the order of the row to that of q8_layout.h: codes[q] becomes quad q of all sub-blocks.
STOKER_INLINE void Interleave(Group* g) {
  const __m512i a = _mm512_unpacklo_epi32(g->codes[0], g->codes[1]);
  const __m512i b = _mm512_unpackhi_epi32(g->codes[0], g->codes[1]);
  const __m512i c = _mm512_unpacklo_epi32(g->codes[2], g->codes[3]);
  const __m512i d = _mm512_unpackhi_epi32(g->codes[2], g->codes[3]);
  g->codes[0] = _mm512_unpacklo_epi64(a, c);
  g->codes[1] = _mm512_unpackhi_epi64(a, c);
  g->codes[2] = _mm512_unpacklo_epi64(b, d);
  g->codes[3] = _mm512_unpackhi_epi64(b, d);
  const __m512i lanes = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  g->scale = _mm512_permutexvar_ps(lanes, g->scale);
  g->add = _mm512_permutexvar_ps(lanes, g->add);
}

template <int kRows, int kTokens>
STOKER_INLINE void Accumulate(const Group (&w)[kRows], const Q8Rows& x, int64_t group,
                              __m512 (&total)[kRows][kTokens]) {
  for (int t = 0; t < kTokens; ++t) {
    const int8_t* codes = x.codes + t * x.code_stride + group * kGroup;
    const int64_t side = t * x.side_stride + group * kSubBlocksPerGroup;
    __m512i product[kRows];
    for (__m512i& row : product) row = _mm512_setzero_si512();
    for (int q = 0; q < 4; ++q) {
      const __m512i quads = _mm512_loadu_si512(codes + q * kQuadStride);
      for (int r = 0; r < kRows; ++r) {
        product[r] = _mm512_dpbusd_epi32(product[r], w[r].codes[q], quads);
      }
    }
    const __m512 scales = _mm512_loadu_ps(x.scales + side);
    const __m512 sums = _mm512_loadu_ps(x.sums + side);
    for (int r = 0; r < kRows; ++r) {
      total[r][t] = _mm512_fmadd_ps(w[r].add, sums, total[r][t]);
      total[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product[r]),
                                    _mm512_mul_ps(w[r].scale, scales), total[r][t]);
    }
  }
}

template <DType kType, int kRows, int kTokens>
void DotRows(const std::byte* rows, int64_t row_bytes, const Q8Rows& x, float* y,
             int64_t y_stride) {
  using F = Format<kType>;
  __m512 total[kRows][kTokens];
  for (auto& row : total) {
    for (__m512& token : row) token = _mm512_setzero_ps();
  }
  const int64_t whole = x.k / kGroup;
  for (int64_t g = 0; g < whole; ++g) {
    Group w[kRows];
    for (int r = 0; r < kRows; ++r) {
      const std::byte* bytes = rows + r * row_bytes + g * F::kGroupBytes;
      for (int64_t line = 0; line < F::kGroupBytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(bytes + kPrefetchBytes + line), _MM_HINT_T0);
      }
      w[r] = F::Load(bytes);
      Interleave(&w[r]);
    }
    Accumulate<kRows, kTokens>(w, x, g, total);
  }
  if constexpr (F::kBlock < kGroup) {
    if (x.k % kGroup != 0) {
      Group w[kRows];
      for (int r = 0; r < kRows; ++r) {
        w[r] = LoadPartial<kType>(rows + r * row_bytes + whole * F::kGroupBytes, x.k % kGroup);
        Interleave(&w[r]);
      }
      Accumulate<kRows, kTokens>(w, x, whole, total);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) y[t * y_stride + r] = _mm512_reduce_add_ps(total[r][t]);
  }
}

// Calls DotRows for exactly x.m tokens, kLeast <= x.m <= kTokens.
template <DType kType, int kRows, int kLeast, int kTokens>
STOKER_INLINE void DotTile(const std::byte* rows, int64_t row_bytes, const Q8Rows& x, float* y,
                           int64_t y_stride) {
  if (x.m == kTokens) {
    DotRows<kType, kRows, kTokens>(rows, row_bytes, x, y, y_stride);
  } else if constexpr (kTokens > kLeast) {
    DotTile<kType, kRows, kLeast, kTokens - 1>(rows, row_bytes, x, y, y_stride);
  }
}

template <DType kType>
void DotQ8(const WeightRows& w, const Q8Rows& x, float* y, int64_t y_stride) noexcept {
  for (int64_t t = 0; t < x.m; t += kTileTokens) {
    const Q8Rows tile = SliceRows(x, t, std::min<int64_t>(kTileTokens, x.m - t));
    float* out = y + t * y_stride;
    int64_t r = 0;
    // Few tokens are bound by memory, which a single sequential stream reads best. The codes of
    // more than four outgrow L1 (9 KiB each at k = 6144), so two rows share each load of them.
    for (; tile.m >= kPairTokens && r + 2 <= w.n_rows; r += 2) {
      DotTile<kType, 2, kPairTokens, kTileTokens>(w.data + r * w.row_bytes, w.row_bytes, tile,
                                                  out + r, y_stride);
    }
    for (; r < w.n_rows; ++r) {
      DotTile<kType, 1, 1, kTileTokens>(w.data + r * w.row_bytes, w.row_bytes, tile, out + r,
                                        y_stride);
    }
  }
}

template <DType... kTypes>
void Add(KernelTable* table) {
  ((table->For(kTypes).dot_q8 = DotQ8<kTypes>), ...);
}

}  // namespace

void AddDotQ8(KernelTable* table) {
  Add<DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,
      DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS>(
      table);
}

}  // namespace stoker::avx512
