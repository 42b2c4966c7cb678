// Full-precision products: the body and its contract are in lanes/dot_f32_body.h; here is the
// dequantisation to f32, with unaligned loads and never past the last block.

#include "runtime/kernels/lanes/dot_f32_body.h"

#include <algorithm>
#include <cstring>

#include "runtime/kernels/avx2/kernels.h"
#include "runtime/kernels/avx2/lanes.h"
#include "runtime/kernels/avx2/unpack.h"

namespace stoker::avx2 {
namespace {

// Eight 16-bit values, fewer at the end of a row.
STOKER_INLINE __m128i LoadFirst8(const std::byte* bytes, int64_t n) {
  if (n >= 8) return Load16(bytes);
  uint16_t copy[8] = {};
  std::memcpy(copy, bytes, static_cast<size_t>(n) * sizeof(uint16_t));
  return Load16(copy);
}

template <DType kType>
void DequantizeBlocks(const std::byte* bytes, int64_t n, float* out) {
  using F = Format<kType>;
  for (int64_t i = 0; i < n; i += kGroup) {
    const std::byte* group = bytes + i / kGroup * F::kGroupBytes;
    Group g;
    if (F::kBlock < kGroup && n - i < kGroup) {
      LoadPartial<kType>(group, n - i, &g);
    } else {
      F::Load(group, &g);
    }
    alignas(32) uint8_t codes[kGroup];
    alignas(32) float scale[kSubBlocksPerGroup];
    alignas(32) float add[kSubBlocksPerGroup] = {};
    for (int j = 0; j < 8; ++j) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(codes + 32 * j), g.codes[j]);
    }
    for (int v = 0; v < 2; ++v) {
      _mm256_store_ps(scale + 8 * v, g.scale[v]);
      if constexpr (!F::kSigned) _mm256_store_ps(add + 8 * v, g.add[v]);
    }
    for (int e = 0; e < kGroup / 8; ++e) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + 8 * e));
      const __m256 code = _mm256_cvtepi32_ps(F::kSigned ? _mm256_cvtepi8_epi32(eight)
                                                        : _mm256_cvtepu8_epi32(eight));
      _mm256_storeu_ps(out + i + 8 * e, _mm256_fmadd_ps(code, _mm256_set1_ps(scale[e / 2]),
                                                        _mm256_set1_ps(add[e / 2])));
    }
  }
}

struct Isa {
  using Lanes = avx2::Lanes;
  static constexpr int kTileRows = 2;

  template <DType kType>
  static STOKER_INLINE __m256 WidenFirst(const std::byte* bytes, int64_t n) {
    const __m128i halves = LoadFirst8(bytes, n);
    if constexpr (kType == DType::kF16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  template <DType kType>
  static void Dequantize(const std::byte* bytes, int64_t n, float* out) {
    DequantizeBlocks<kType>(bytes, n, out);
  }
};

}  // namespace

void AddDotF32(KernelTable* table) { DotF32Body<Isa>::AddAll(table); }

}  // namespace stoker::avx2
