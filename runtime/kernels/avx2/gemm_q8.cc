// Many tokens on integer activations: the blocking is in lanes/gemm_q8_body.h, the strip and the
// register tile are here.
//
// A strip is 8 rows; 32-bit lane r of every vector is row r. vpmaddubsw multiplies four columns of
// 8 rows with four codes of one token, broadcast, into pairs of 16 bits; pairs are added in 16
// bits as long as they cannot overflow, then widened (exact), and per block of 16 or 32 columns
// scaled in f32.

#include "runtime/kernels/lanes/gemm_q8_body.h"

#include <cstring>

#include "runtime/kernels/avx2/kernels.h"
#include "runtime/kernels/avx2/q8_layout.h"
#include "runtime/kernels/avx2/unpack.h"

namespace stoker::avx2 {
namespace {

// v[i] lane j <-> v[j] lane i, 32-bit lanes.
STOKER_INLINE void Transpose8(__m256i (&v)[8]) {
  __m256i t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm256_permute2x128_si256(v[c], v[4 + c], 0x20);
    t[4 + c] = _mm256_permute2x128_si256(v[c], v[4 + c], 0x31);
  }
  for (int i = 0; i < 8; ++i) v[i] = t[i];
}

struct Isa {
  static constexpr int kStripRows = 8;
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 2;
  template <DType kType>
  using FormatOf = Format<kType>;
  static constexpr int SidePosition(int s) { return avx2::SidePosition(s); }

  // The first code of block b (kSpan elements) of a token's chunk.
  template <int kSpan>
  static STOKER_INLINE const int8_t* Block(const int8_t* x, int64_t b) {
    constexpr int64_t kPerGroup = kGroup / kSpan;
    const int s = static_cast<int>(b % kPerGroup) * (kSpan / static_cast<int>(kSubBlock));
    return x + b / kPerGroup * kGroup + CodePosition(s);
  }
  // Bytes from there to quad q of the block.
  static constexpr int QuadOffset(int q) { return q / 4 * kPairStride + q % 4 * kQuadStride; }

  static STOKER_INLINE void StoreTransposed(__m256i (&v)[8], int step, void* out) {
    Transpose8(v);
    auto* vectors = static_cast<__m256i*>(out);
    for (int i = 0; i < 8; i += step) _mm256_store_si256(vectors++, v[i]);
  }

  template <DType kType, typename Strip>
  static void UnpackStrip(const WeightRows& w, int64_t n, int64_t n_groups, Strip* strip) {
    using F = Format<kType>;
    constexpr int kStep = F::kScaleSpan / static_cast<int>(kSubBlock);
    for (int64_t g = 0; g < n_groups; ++g) {
      Group rows[8] = {};
      const int64_t rest = n - g * kGroup;
      for (int64_t r = 0; r < w.n_rows; ++r) {
        const std::byte* bytes = w.data + r * w.row_bytes + g * F::kGroupBytes;
        if (F::kBlock < kGroup && rest < kGroup) {
          LoadPartial<kType>(bytes, rest, &rows[r]);
        } else {
          F::Load(bytes, &rows[r]);
        }
      }
      __m256i v[8];
      for (int j = 0; j < 8; ++j) {
        for (int r = 0; r < 8; ++r) v[r] = rows[r].codes[j];
        StoreTransposed(v, 1, strip->codes + (g * kGroup + 32 * j) * kStripRows);
      }
      for (int half = 0; half < 2; ++half) {
        const int64_t block = (2 * g + half) * (kGroup / 2 / F::kScaleSpan);
        for (int r = 0; r < 8; ++r) v[r] = _mm256_castps_si256(rows[r].scale[half]);
        StoreTransposed(v, kStep, strip->scale + block * kStripRows);
        if constexpr (!F::kSigned && F::kOffset == 0.0f) {
          for (int r = 0; r < 8; ++r) v[r] = _mm256_castps_si256(rows[r].add[half]);
          StoreTransposed(v, kStep, strip->add + block * kStripRows);
        }
      }
    }
  }

  // Products of pairs that may be added in 16 bits: n * 2 * (2^bits - 1) * 127 < 2^15.
  static constexpr int PairsIn16Bits(int bits) {
    return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
  }

  template <DType kType, int kT, typename Strip, typename Sides>
  __attribute__((noinline)) static void MultiplyTile(const Strip* strips, const Sides& sides,
                                                     const int8_t* x, int64_t x_stride,
                                                     int64_t n_blocks, bool first, float* y,
                                                     int64_t y_stride, int64_t n_rows) {
    using F = Format<kType>;
    constexpr int kQuads = F::kScaleSpan / 4;
    constexpr int kRun = std::min(kQuads, PairsIn16Bits(F::kBits));
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 total[2][kT];
    for (auto& strip : total) {
      for (__m256& token : strip) token = _mm256_setzero_ps();
    }
    for (int64_t b = 0; b < n_blocks; ++b) {
      __m256i product[2][kT];
      const int8_t* block = Block<F::kScaleSpan>(x, b);
#pragma GCC unroll 8
      for (int run = 0; run < kQuads / kRun; ++run) {
        __m256i pairs[2][kT];
#pragma GCC unroll 8
        for (int q = 0; q < kRun; ++q) {
          const int64_t quad = b * kQuads + run * kRun + q;
          for (int s = 0; s < 2; ++s) {
            const __m256i w = _mm256_load_si256(
                reinterpret_cast<const __m256i*>(strips[s].codes + quad * 32));
            for (int t = 0; t < kT; ++t) {
              int four;
              std::memcpy(&four, block + t * x_stride + QuadOffset(run * kRun + q), sizeof(four));
              const __m256i token = _mm256_set1_epi32(four);
              const __m256i p =
                  F::kSigned ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(token, w))
                             : _mm256_maddubs_epi16(w, token);
              pairs[s][t] = q == 0 ? p : _mm256_add_epi16(pairs[s][t], p);
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
          if constexpr (F::kSigned) {
            total[s][t] = _mm256_fmadd_ps(_mm256_mul_ps(sum, x_scale), scale, total[s][t]);
          } else if constexpr (F::kOffset != 0.0f) {
            total[s][t] =
                _mm256_fmadd_ps(_mm256_fmadd_ps(sum, x_scale, x_sum), scale, total[s][t]);
          } else {
            total[s][t] = _mm256_fmadd_ps(_mm256_mul_ps(sum, x_scale), scale, total[s][t]);
            total[s][t] =
                _mm256_fmadd_ps(_mm256_load_ps(strips[s].add + b * 8), x_sum, total[s][t]);
          }
        }
      }
    }
    for (int s = 0; s < 2; ++s) {
      for (int t = 0; t < kT; ++t) {
        alignas(32) float sums[8];
        _mm256_store_ps(sums, total[s][t]);
        float* out = y + t * y_stride + 8 * s;
        const int64_t rows = std::min<int64_t>(8, n_rows - 8 * s);
        for (int64_t r = 0; r < rows; ++r) out[r] = first ? sums[r] : out[r] + sums[r];
      }
    }
  }
};

}  // namespace

void AddGemmQ8(KernelTable* table) { GemmQ8Body<Isa>::AddAll(table); }

}  // namespace stoker::avx2
