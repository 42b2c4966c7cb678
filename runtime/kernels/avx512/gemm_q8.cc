// Many tokens on integer activations: the blocking is in lanes/gemm_q8_body.h, the strip and the
// register tile are here.
//
// A strip is 16 rows; lane r of every vector is row r. vpdpbusd multiplies four columns of 16 rows
// with four codes of one token, broadcast; per block of 16 or 32 columns the i32 sums (exact) are
// scaled in f32. A tile of 2 strips x 6 tokens keeps 12 integer and 12 f32 accumulators.

#include "runtime/kernels/lanes/gemm_q8_body.h"

#include <cstring>

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/q8_layout.h"
#include "runtime/kernels/avx512/unpack.h"

namespace stoker::avx512 {
namespace {

// v[i] lane j <-> v[j] lane i, 32-bit lanes.
STOKER_INLINE void Transpose16(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // v[4 a + c], 128-bit lane L: rows 4 a .. 4 a + 3 of column 4 L + c.
  for (int c = 0; c < 4; ++c) {
    const __m512i a = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xdd);
    const __m512i e = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xdd);
    t[c] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[8 + c] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[4 + c] = _mm512_shuffle_i32x4(d, e, 0x88);
    t[12 + c] = _mm512_shuffle_i32x4(d, e, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

struct Isa {
  static constexpr int kStripRows = 16;
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 6;
  template <DType kType>
  using FormatOf = Format<kType>;
  static constexpr int SidePosition(int s) { return avx512::SidePosition(s); }

  // The first code of block b (kSpan elements) of a token's chunk.
  template <int kSpan>
  static STOKER_INLINE const int8_t* Block(const int8_t* x, int64_t b) {
    constexpr int64_t kPerGroup = kGroup / kSpan;
    const int s = static_cast<int>(b % kPerGroup) * (kSpan / static_cast<int>(kSubBlock));
    return x + b / kPerGroup * kGroup + CodePosition(s);
  }
  // Bytes from there to quad q of the block.
  static constexpr int QuadOffset(int q) { return q / 4 * kPairStride + q % 4 * kQuadStride; }

  // The codes of one group of 16 rows, [row][chunk of 64], and their scales.
  struct Rows {
    __m512i codes[16][4];
    __m512i scale[16];
    __m512i add[16];
  };

  // Keeps every step-th vector.
  static STOKER_INLINE void StoreTransposed(__m512i (&v)[16], int step, void* out) {
    Transpose16(v);
    auto* bytes = static_cast<std::byte*>(out);
    for (int i = 0; i < 16; i += step) {
      _mm512_store_si512(bytes, v[i]);
      bytes += 64;
    }
  }

  template <DType kType, typename Strip>
  static void UnpackStrip(const WeightRows& w, int64_t n, int64_t n_groups, Strip* strip) {
    using F = Format<kType>;
    constexpr int kStep = F::kScaleSpan / static_cast<int>(kSubBlock);
    for (int64_t g = 0; g < n_groups; ++g) {
      Rows rows;
      const int64_t rest = n - g * kGroup;
      for (int r = 0; r < 16; ++r) {
        Group group{};
        if (r < w.n_rows) {
          const std::byte* bytes = w.data + r * w.row_bytes + g * F::kGroupBytes;
          group = F::kBlock < kGroup && rest < kGroup ? LoadPartial<kType>(bytes, rest)
                                                      : F::Load(bytes);
        }
        for (int c = 0; c < 4; ++c) rows.codes[r][c] = group.codes[c];
        rows.scale[r] = _mm512_castps_si512(group.scale);
        rows.add[r] = _mm512_castps_si512(group.add);
      }
      for (int c = 0; c < 4; ++c) {
        __m512i v[16];
        for (int r = 0; r < 16; ++r) v[r] = rows.codes[r][c];
        StoreTransposed(v, 1, strip->codes + (g * kGroup + 64 * c) * kStripRows);
      }
      const int64_t side = g * (kGroup / F::kScaleSpan) * kStripRows;
      StoreTransposed(rows.scale, kStep, strip->scale + side);
      if constexpr (F::kOffset == 0.0f) StoreTransposed(rows.add, kStep, strip->add + side);
    }
  }

  template <DType kType, int kT, typename Strip, typename Sides>
  __attribute__((noinline)) static void MultiplyTile(const Strip* strips, const Sides& sides,
                                                     const int8_t* x, int64_t x_stride,
                                                     int64_t n_blocks, bool first, float* y,
                                                     int64_t y_stride, int64_t n_rows) {
    using F = Format<kType>;
    constexpr int kQuads = F::kScaleSpan / 4;
    __m512 total[2][kT];
    for (auto& strip : total) {
      for (__m512& token : strip) token = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < n_blocks; ++b) {
      __m512i product[2][kT];
      for (auto& strip : product) {
        for (__m512i& token : strip) token = _mm512_setzero_si512();
      }
      const int8_t* block = Block<F::kScaleSpan>(x, b);
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) {
        const int64_t quad = b * kQuads + q;
        const __m512i w0 = _mm512_load_si512(strips[0].codes + quad * 64);
        const __m512i w1 = _mm512_load_si512(strips[1].codes + quad * 64);
        for (int t = 0; t < kT; ++t) {
          int four;
          std::memcpy(&four, block + t * x_stride + QuadOffset(q), sizeof(four));
          const __m512i token = _mm512_set1_epi32(four);
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
          if constexpr (F::kOffset != 0.0f) {
            total[s][t] = _mm512_fmadd_ps(_mm512_fmadd_ps(sum, x_scale, x_sum), scale, total[s][t]);
          } else {
            total[s][t] = _mm512_fmadd_ps(_mm512_mul_ps(sum, x_scale), scale, total[s][t]);
            total[s][t] =
                _mm512_fmadd_ps(_mm512_load_ps(strips[s].add + b * 16), x_sum, total[s][t]);
          }
        }
      }
    }
    for (int s = 0; s < 2; ++s) {
      const int64_t rows = n_rows - 16 * s;
      if (rows <= 0) break;
      const auto mask = static_cast<__mmask16>(rows >= 16 ? 0xffffu : (1u << rows) - 1u);
      for (int t = 0; t < kT; ++t) {
        float* out = y + t * y_stride + 16 * s;
        const __m512 old = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out);
        _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(old, total[s][t]));
      }
    }
  }
};

}  // namespace

void AddGemmQ8(KernelTable* table) { GemmQ8Body<Isa>::AddAll(table); }

}  // namespace stoker::avx512
