// Full-precision products: the body and its contract are in lanes/dot_f32_body.h; here is the
// dequantisation to f32, with unaligned loads and never past the last block.

#include "runtime/kernels/lanes/dot_f32_body.h"

#include <algorithm>

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/lanes.h"
#include "runtime/kernels/avx512/unpack.h"

namespace stoker::avx512 {
namespace {

STOKER_INLINE __m256i LoadFirst16(const std::byte* bytes, int64_t n) {
  const uint32_t mask = n >= 16 ? 0xffffu : (1u << n) - 1u;
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), bytes);
}

template <DType kType>
void DequantizeBlocks(const std::byte* bytes, int64_t n, float* out) {
  using F = Format<kType>;
  for (int64_t i = 0; i < n; i += kGroup) {
    const std::byte* group = bytes + i / kGroup * F::kGroupBytes;
    const Group g = F::kBlock < kGroup && n - i < kGroup ? LoadPartial<kType>(group, n - i)
                                                         : F::Load(group);
    alignas(64) uint8_t codes[kGroup];
    alignas(64) float scale[kSubBlocksPerGroup];
    alignas(64) float add[kSubBlocksPerGroup];
    for (int c = 0; c < 4; ++c) _mm512_store_si512(codes + 64 * c, g.codes[c]);
    _mm512_store_ps(scale, g.scale);
    _mm512_store_ps(add, g.add);
    for (int s = 0; s < kSubBlocksPerGroup; ++s) {
      const __m512 code = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
          _mm_load_si128(reinterpret_cast<const __m128i*>(codes + 16 * s))));
      _mm512_storeu_ps(out + i + 16 * s, _mm512_fmadd_ps(code, _mm512_set1_ps(scale[s]),
                                                         _mm512_set1_ps(add[s])));
    }
  }
}

struct Isa {
  using Lanes = avx512::Lanes;
  static constexpr int kTileRows = 4;

  template <DType kType>
  static STOKER_INLINE __m512 WidenFirst(const std::byte* bytes, int64_t n) {
    const __m256i halves = LoadFirst16(bytes, n);
    if constexpr (kType == DType::kF16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  template <DType kType>
  static void Dequantize(const std::byte* bytes, int64_t n, float* out) {
    DequantizeBlocks<kType>(bytes, n, out);
  }
};

}  // namespace

void AddDotF32(KernelTable* table) { DotF32Body<Isa>::AddAll(table); }

}  // namespace stoker::avx512
