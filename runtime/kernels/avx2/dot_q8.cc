// Few tokens on integer activations: y = W x with vpmaddubsw.
//
// Types: u8 (or, for the eight-bit formats, s8) weight codes x s8 activation codes -> i32 per 16
// elements (exact, nothing saturates: see SubBlockSums), f32 scales, f32 accumulation in 8
// lanes. Any alignment; a tail shorter than 256 elements is padded with zeros. Tolerance against
// scalar: 1e-5 of sum |w x|. A row is streamed from memory once; its groups are unpacked once for
// up to four tokens, and again from L1 for the next four.

#include <algorithm>

#include "runtime/kernels/avx2/kernels.h"
#include "runtime/kernels/avx2/q8_layout.h"
#include "runtime/kernels/avx2/unpack.h"

namespace stoker::avx2 {
namespace {

// Bytes ahead of the load to ask for. The hardware prefetcher stops at page ends, where a row of
// quantised weights usually continues.
constexpr int64_t kPrefetchBytes = 1024;

// Products of 32 codes, summed in pairs: sixteen 16-bit lanes. Unsigned codes of up to 6 bits give
// at most 2 * 63 * 127; for signed ones the sign moves to the activation, which is never -128, so
// at most 2 * 128 * 127: neither saturates.
template <bool kSigned>
STOKER_INLINE __m256i PairProducts(__m256i w, __m256i x) {
  if constexpr (kSigned) return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return _mm256_maddubs_epi16(w, x);
}

// From the order of the row to that of q8_layout.h: codes[4 v + q] becomes quad q of the
// sub-blocks of half v.
template <bool kSigned>
STOKER_INLINE void Interleave(Group* g) {
  for (int v = 0; v < 2; ++v) {
    __m256i* codes = g->codes + 4 * v;
    const __m256i a = _mm256_unpacklo_epi32(codes[0], codes[1]);
    const __m256i b = _mm256_unpackhi_epi32(codes[0], codes[1]);
    const __m256i c = _mm256_unpacklo_epi32(codes[2], codes[3]);
    const __m256i d = _mm256_unpackhi_epi32(codes[2], codes[3]);
    codes[0] = _mm256_unpacklo_epi64(a, c);
    codes[1] = _mm256_unpackhi_epi64(a, c);
    codes[2] = _mm256_unpacklo_epi64(b, d);
    codes[3] = _mm256_unpackhi_epi64(b, d);
    const __m256i lanes = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    g->scale[v] = _mm256_permutevar8x32_ps(g->scale[v], lanes);
    if constexpr (!kSigned) g->add[v] = _mm256_permutevar8x32_ps(g->add[v], lanes);
  }
}

// Sums of the products of eight sub-blocks from those of their four quads. Sums stay in 16 bits as
// long as they fit: of 4 products of pairs for codes up to 5 bits (4 * 2 * 31 * 127 < 2^15), of 2
// for 6 bits, of 1 for 8.
template <int kBits>
STOKER_INLINE __m256i SubBlockSums(const __m256i (&p)[4]) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kBits <= 5) {
    return _mm256_madd_epi16(
        _mm256_add_epi16(_mm256_add_epi16(p[0], p[1]), _mm256_add_epi16(p[2], p[3])), ones);
  } else if constexpr (kBits == 6) {
    return _mm256_add_epi32(_mm256_madd_epi16(_mm256_add_epi16(p[0], p[1]), ones),
                            _mm256_madd_epi16(_mm256_add_epi16(p[2], p[3]), ones));
  } else {
    return _mm256_add_epi32(
        _mm256_add_epi32(_mm256_madd_epi16(p[0], ones), _mm256_madd_epi16(p[1], ones)),
        _mm256_add_epi32(_mm256_madd_epi16(p[2], ones), _mm256_madd_epi16(p[3], ones)));
  }
}

template <DType kType, int kTokens>
STOKER_INLINE void Accumulate(const Group& w, const Q8Rows& x, int64_t group, __m256* total) {
  using F = Format<kType>;
  for (int t = 0; t < kTokens; ++t) {
    const int8_t* codes = x.codes + t * x.code_stride + group * kGroup;
    const int64_t side = t * x.side_stride + group * kSubBlocksPerGroup;
    for (int v = 0; v < 2; ++v) {
      __m256i p[4];
      for (int q = 0; q < 4; ++q) {
        p[q] = PairProducts<F::kSigned>(w.codes[4 * v + q],
                                        Load32(codes + (4 * v + q) * kQuadStride));
      }
      const __m256 scale = _mm256_mul_ps(w.scale[v], _mm256_loadu_ps(x.scales + side + 8 * v));
      if constexpr (!F::kSigned) {
        total[t] = _mm256_fmadd_ps(w.add[v], _mm256_loadu_ps(x.sums + side + 8 * v), total[t]);
      }
      total[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(SubBlockSums<F::kBits>(p)), scale, total[t]);
    }
  }
}

STOKER_INLINE float Sum(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

template <DType kType, int kTokens>
void DotRow(const std::byte* row, const Q8Rows& x, float* y, int64_t y_stride) {
  using F = Format<kType>;
  __m256 total[kTokens];
  for (__m256& token : total) token = _mm256_setzero_ps();
  const int64_t whole = x.k / kGroup;
  for (int64_t g = 0; g < whole; ++g) {
    const std::byte* bytes = row + g * F::kGroupBytes;
    for (int64_t line = 0; line < F::kGroupBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(bytes + kPrefetchBytes + line), _MM_HINT_T0);
    }
    Group w;
    F::Load(bytes, &w);
    Interleave<F::kSigned>(&w);
    Accumulate<kType, kTokens>(w, x, g, total);
  }
  if constexpr (F::kBlock < kGroup) {
    if (x.k % kGroup != 0) {
      Group w;
      LoadPartial<kType>(row + whole * F::kGroupBytes, x.k % kGroup, &w);
      Interleave<F::kSigned>(&w);
      Accumulate<kType, kTokens>(w, x, whole, total);
    }
  }
  for (int t = 0; t < kTokens; ++t) y[t * y_stride] = Sum(total[t]);
}

template <DType kType>
void DotQ8(const WeightRows& w, const Q8Rows& x, float* y, int64_t y_stride) noexcept {
  for (int64_t r = 0; r < w.n_rows; ++r) {
    const std::byte* row = w.data + r * w.row_bytes;
    for (int64_t t = 0; t < x.m; t += 4) {
      const Q8Rows tile = SliceRows(x, t, std::min<int64_t>(4, x.m - t));
      float* out = y + t * y_stride + r;
      switch (tile.m) {
        case 1: DotRow<kType, 1>(row, tile, out, y_stride); break;
        case 2: DotRow<kType, 2>(row, tile, out, y_stride); break;
        case 3: DotRow<kType, 3>(row, tile, out, y_stride); break;
        default: DotRow<kType, 4>(row, tile, out, y_stride); break;
      }
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

}  // namespace stoker::avx2
