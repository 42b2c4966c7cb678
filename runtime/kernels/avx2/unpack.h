#pragma once

// Quantised blocks to registers: 256 elements of a row become eight vectors of codes in the order
// of the row and, per 16 elements, a scale and an additive term (w = scale * code + add), as in
// scalar/unpack.h. Only for files compiled with the AVX2 flags.
//
// Codes of up to six bits are unsigned. The eight-bit formats (Q8_0 and the IQ4 levels) keep
// signed codes without an additive term instead, because u8 x s8 pairs of the full range
// saturate in vpmaddubsw.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
#include "mmap/dtype.h"
#include "runtime/kernels/inline.h"

namespace stoker::avx2 {

struct Group {
  __m256i codes[8];  // elements 32 j .. 32 j + 31
  __m256 scale[2];   // lane s of vector v: elements 16 (8 v + s) .. + 15
  __m256 add[2];     // unset for formats without an additive term
};

STOKER_INLINE __m256i Byte(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }

STOKER_INLINE __m256i Load32(const void* bytes) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
}

STOKER_INLINE __m128i Load16(const void* bytes) {
  return _mm_loadu_si128(static_cast<const __m128i*>(bytes));
}

STOKER_INLINE float HalfToFloat(uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

// Bits [from, from + n) of every byte, moved to bit `to`; `mask` holds those target bits. Shifts
// of 16-bit lanes carry bits across bytes, none of which is under the mask.
template <int kFrom, int kTo>
STOKER_INLINE __m256i MoveBits(__m256i bytes, int mask) {
  if constexpr (kFrom > kTo) {
    bytes = _mm256_srli_epi16(bytes, kFrom - kTo);
  } else if constexpr (kFrom < kTo) {
    bytes = _mm256_slli_epi16(bytes, kTo - kFrom);
  }
  return _mm256_and_si256(bytes, Byte(mask));
}

// Low nibbles of 16 bytes, then their high nibbles.
STOKER_INLINE __m256i NibbleBlock(const uint8_t* qs) {
  const __m256i both = _mm256_broadcastsi128_si256(Load16(qs));
  return _mm256_and_si256(_mm256_srlv_epi64(both, _mm256_set_epi64x(4, 4, 0, 0)), Byte(15));
}

STOKER_INLINE __m256i Iq4Codes(__m256i nibbles) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(Load16(kIq4Levels)), nibbles);
}

// 16 where bit j of the word is set.
STOKER_INLINE __m256i FifthBits(const uint8_t (&qh)[4]) {
  int word;
  std::memcpy(&word, qh, sizeof(word));
  const __m256i spread = _mm256_shuffle_epi8(
      _mm256_set1_epi32(word),
      _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                       3, 3, 3, 3, 3, 3));
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), Byte(16));
}

// Eight values, each for two neighbouring sub-blocks of 16.
STOKER_INLINE void Twice(__m256 values, __m256 (&out)[2]) {
  out[0] = _mm256_permutevar8x32_ps(values, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
  out[1] = _mm256_permutevar8x32_ps(values, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
}

// The field kOffset bytes into each of eight consecutive blocks, as floats, twice each.
template <typename Block, size_t kOffset>
STOKER_INLINE void BlockHalves(const Block* blocks, __m256 (&out)[2]) {
  short d[8];
  for (int b = 0; b < 8; ++b) {
    std::memcpy(&d[b], reinterpret_cast<const uint8_t*>(blocks + b) + kOffset, sizeof(d[b]));
  }
  Twice(_mm256_cvtph_ps(_mm_set_epi16(d[7], d[6], d[5], d[4], d[3], d[2], d[1], d[0])), out);
}

STOKER_INLINE void MulBoth(const __m256 (&values)[2], float factor, __m256 (&out)[2]) {
  for (int v = 0; v < 2; ++v) out[v] = _mm256_mul_ps(values[v], _mm256_set1_ps(factor));
}

// Sixteen small integers (lanes of bytes) times a factor.
STOKER_INLINE void ScaleBytes(__m128i bytes, float factor, __m256 (&out)[2]) {
  const __m256 f = _mm256_set1_ps(factor);
  out[0] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), f);
  out[1] = _mm256_mul_ps(
      _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))), f);
}

// Format<type>: kGroupBytes, the bytes of 256 elements; kBlock, the elements of one block;
// kSigned, whether codes are (those of 8 bits); kOffset, what other signed formats add to theirs
// (0: the format has minima); Load.
template <DType>
struct Format;

template <typename Block, int elements, int bits, int offset>
struct FormatBase {
  using BlockType = Block;
  static constexpr int kBlock = elements;
  static constexpr bool kSigned = bits == 8;
  static constexpr float kOffset = offset;
  static constexpr int64_t kGroupBytes = 256 / elements * static_cast<int64_t>(sizeof(Block));

  static STOKER_INLINE void AddFromOffset(Group* g) { MulBoth(g->scale, -kOffset, g->add); }
};

template <>
struct Format<DType::kQ4_0> : FormatBase<BlockQ4_0, 32, 4, 8> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ4_0*>(bytes);
    for (int j = 0; j < 8; ++j) g->codes[j] = NibbleBlock(b[j].qs);
    BlockHalves<BlockQ4_0, offsetof(BlockQ4_0, d)>(b, g->scale);
    AddFromOffset(g);
  }
};

template <>
struct Format<DType::kQ4_1> : FormatBase<BlockQ4_1, 32, 4, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ4_1*>(bytes);
    for (int j = 0; j < 8; ++j) g->codes[j] = NibbleBlock(b[j].qs);
    BlockHalves<BlockQ4_1, offsetof(BlockQ4_1, d)>(b, g->scale);
    BlockHalves<BlockQ4_1, offsetof(BlockQ4_1, m)>(b, g->add);
  }
};

template <>
struct Format<DType::kQ5_0> : FormatBase<BlockQ5_0, 32, 5, 16> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ5_0*>(bytes);
    for (int j = 0; j < 8; ++j) {
      g->codes[j] = _mm256_or_si256(NibbleBlock(b[j].qs), FifthBits(b[j].qh));
    }
    BlockHalves<BlockQ5_0, offsetof(BlockQ5_0, d)>(b, g->scale);
    AddFromOffset(g);
  }
};

template <>
struct Format<DType::kQ5_1> : FormatBase<BlockQ5_1, 32, 5, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ5_1*>(bytes);
    for (int j = 0; j < 8; ++j) {
      g->codes[j] = _mm256_or_si256(NibbleBlock(b[j].qs), FifthBits(b[j].qh));
    }
    BlockHalves<BlockQ5_1, offsetof(BlockQ5_1, d)>(b, g->scale);
    BlockHalves<BlockQ5_1, offsetof(BlockQ5_1, m)>(b, g->add);
  }
};

template <>
struct Format<DType::kQ8_0> : FormatBase<BlockQ8_0, 32, 8, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ8_0*>(bytes);
    for (int j = 0; j < 8; ++j) g->codes[j] = Load32(b[j].qs);
    BlockHalves<BlockQ8_0, offsetof(BlockQ8_0, d)>(b, g->scale);
  }
};

template <>
struct Format<DType::kInt8Row> : FormatBase<BlockInt8Row, 32, 8, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockInt8Row*>(bytes);
    for (int j = 0; j < 8; ++j) g->codes[j] = Load32(b[j].qs);
    g->scale[0] = g->scale[1] = _mm256_set1_ps(1.0f);
  }
};

template <>
struct Format<DType::kIQ4_NL> : FormatBase<BlockIQ4_NL, 32, 8, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockIQ4_NL*>(bytes);
    for (int j = 0; j < 8; ++j) g->codes[j] = Iq4Codes(NibbleBlock(b[j].qs));
    BlockHalves<BlockIQ4_NL, offsetof(BlockIQ4_NL, d)>(b, g->scale);
  }
};

template <>
struct Format<DType::kQ2_K> : FormatBase<BlockQ2_K, 256, 2, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ2_K*>(bytes);
    for (int half = 0; half < 2; ++half) {
      const __m256i packed = Load32(b->qs + 32 * half);
      g->codes[4 * half + 0] = MoveBits<0, 0>(packed, 3);
      g->codes[4 * half + 1] = MoveBits<2, 0>(packed, 3);
      g->codes[4 * half + 2] = MoveBits<4, 0>(packed, 3);
      g->codes[4 * half + 3] = MoveBits<6, 0>(packed, 3);
    }
    const __m128i packed = Load16(b->scales);
    const __m128i nibble = _mm_set1_epi8(15);
    ScaleBytes(_mm_and_si128(packed, nibble), HalfToFloat(b->d), g->scale);
    ScaleBytes(_mm_and_si128(_mm_srli_epi16(packed, 4), nibble), -HalfToFloat(b->dmin), g->add);
  }
};

template <>
struct Format<DType::kQ3_K> : FormatBase<BlockQ3_K, 256, 3, 4> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ3_K*>(bytes);
    const __m256i first = Load32(b->qs);
    const __m256i second = Load32(b->qs + 32);
    const __m256i high = Load32(b->hmask);
    g->codes[0] = _mm256_or_si256(MoveBits<0, 0>(first, 3), MoveBits<0, 2>(high, 4));
    g->codes[1] = _mm256_or_si256(MoveBits<2, 0>(first, 3), MoveBits<1, 2>(high, 4));
    g->codes[2] = _mm256_or_si256(MoveBits<4, 0>(first, 3), MoveBits<2, 2>(high, 4));
    g->codes[3] = _mm256_or_si256(MoveBits<6, 0>(first, 3), MoveBits<3, 2>(high, 4));
    g->codes[4] = _mm256_or_si256(MoveBits<0, 0>(second, 3), MoveBits<4, 2>(high, 4));
    g->codes[5] = _mm256_or_si256(MoveBits<2, 0>(second, 3), MoveBits<5, 2>(high, 4));
    g->codes[6] = _mm256_or_si256(MoveBits<4, 0>(second, 3), MoveBits<6, 2>(high, 4));
    g->codes[7] = _mm256_or_si256(MoveBits<6, 0>(second, 3), MoveBits<7, 2>(high, 4));
    int top;
    std::memcpy(&top, b->scales + 8, sizeof(top));
    const __m128i bottom = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b->scales));
    const __m128i nibbles = _mm_and_si128(
        _mm_unpacklo_epi64(bottom, _mm_srli_epi64(bottom, 4)), _mm_set1_epi8(15));
    const __m128i pairs = _mm_and_si128(
        _mm_srlv_epi32(_mm_set1_epi32(top), _mm_set_epi32(6, 4, 2, 0)), _mm_set1_epi8(3));
    const __m128i sixbit = _mm_or_si128(nibbles, _mm_slli_epi16(pairs, 4));
    ScaleBytes(_mm_sub_epi8(sixbit, _mm_set1_epi8(32)), HalfToFloat(b->d), g->scale);
    AddFromOffset(g);
  }
};

// Scales and minima of Q4_K and Q5_K: the twelve bytes are taken apart as three words, four
// six-bit fields at a time.
template <typename Block>
STOKER_INLINE void LoadSixBitScales(const Block* b, Group* g) {
  uint32_t words[3];
  std::memcpy(words, b->scales, sizeof(words));
  const uint64_t sc = (words[0] & 0x3f3f3f3fu) |
                      (static_cast<uint64_t>((words[2] & 0x0f0f0f0fu) |
                                             ((words[0] >> 2) & 0x30303030u))
                       << 32);
  const uint64_t mn = (words[1] & 0x3f3f3f3fu) |
                      (static_cast<uint64_t>(((words[2] >> 4) & 0x0f0f0f0fu) |
                                             ((words[1] >> 2) & 0x30303030u))
                       << 32);
  const __m256 scales = _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(sc))));
  const __m256 minima = _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(mn))));
  Twice(_mm256_mul_ps(scales, _mm256_set1_ps(HalfToFloat(b->d))), g->scale);
  Twice(_mm256_mul_ps(minima, _mm256_set1_ps(-HalfToFloat(b->dmin))), g->add);
}

template <>
struct Format<DType::kQ4_K> : FormatBase<BlockQ4_K, 256, 4, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ4_K*>(bytes);
    for (int c = 0; c < 4; ++c) {
      const __m256i packed = Load32(b->qs + 32 * c);
      g->codes[2 * c] = MoveBits<0, 0>(packed, 15);
      g->codes[2 * c + 1] = MoveBits<4, 0>(packed, 15);
    }
    LoadSixBitScales(b, g);
  }
};

template <>
struct Format<DType::kQ5_K> : FormatBase<BlockQ5_K, 256, 5, 0> {
  template <int kChunk>
  static STOKER_INLINE void LoadChunk(const BlockQ5_K* b, __m256i high, Group* g) {
    const __m256i packed = Load32(b->qs + 32 * kChunk);
    g->codes[2 * kChunk] =
        _mm256_or_si256(MoveBits<0, 0>(packed, 15), MoveBits<2 * kChunk, 4>(high, 16));
    g->codes[2 * kChunk + 1] =
        _mm256_or_si256(MoveBits<4, 0>(packed, 15), MoveBits<2 * kChunk + 1, 4>(high, 16));
  }
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ5_K*>(bytes);
    const __m256i high = Load32(b->qh);
    LoadChunk<0>(b, high, g);
    LoadChunk<1>(b, high, g);
    LoadChunk<2>(b, high, g);
    LoadChunk<3>(b, high, g);
    LoadSixBitScales(b, g);
  }
};

template <>
struct Format<DType::kQ6_K> : FormatBase<BlockQ6_K, 256, 6, 32> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockQ6_K*>(bytes);
    for (int half = 0; half < 2; ++half) {
      const __m256i first = Load32(b->ql + 64 * half);
      const __m256i second = Load32(b->ql + 64 * half + 32);
      const __m256i high = Load32(b->qh + 32 * half);
      __m256i* codes = g->codes + 4 * half;
      codes[0] = _mm256_or_si256(MoveBits<0, 0>(first, 15), MoveBits<0, 4>(high, 0x30));
      codes[1] = _mm256_or_si256(MoveBits<0, 0>(second, 15), MoveBits<2, 4>(high, 0x30));
      codes[2] = _mm256_or_si256(MoveBits<4, 0>(first, 15), MoveBits<4, 4>(high, 0x30));
      codes[3] = _mm256_or_si256(MoveBits<4, 0>(second, 15), MoveBits<6, 4>(high, 0x30));
    }
    ScaleBytes(Load16(b->scales), HalfToFloat(b->d), g->scale);
    AddFromOffset(g);
  }
};

template <>
struct Format<DType::kIQ4_XS> : FormatBase<BlockIQ4_XS, 256, 8, 0> {
  static STOKER_INLINE void Load(const std::byte* bytes, Group* g) {
    const auto* b = reinterpret_cast<const BlockIQ4_XS*>(bytes);
    for (int j = 0; j < 8; ++j) g->codes[j] = Iq4Codes(NibbleBlock(b->qs + 16 * j));
    int low_word;
    std::memcpy(&low_word, b->scales_l, sizeof(low_word));
    const __m256i low = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(low_word),
                          _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28)),
        _mm256_set1_epi32(15));
    const __m256i high = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h),
                          _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14)),
        _mm256_set1_epi32(3));
    const __m256i sc = _mm256_sub_epi32(_mm256_or_si256(low, _mm256_slli_epi32(high, 4)),
                                        _mm256_set1_epi32(32));
    Twice(_mm256_mul_ps(_mm256_cvtepi32_ps(sc), _mm256_set1_ps(HalfToFloat(b->d))), g->scale);
  }
};

// The first n elements of a group (a multiple of 32; only formats of 32 have partial groups) with
// zeros behind them.
template <DType kType>
STOKER_INLINE void LoadPartial(const std::byte* bytes, int64_t n, Group* g) {
  using F = Format<kType>;
  alignas(32) std::byte copy[F::kGroupBytes] = {};
  std::memcpy(copy, bytes, static_cast<size_t>(n / F::kBlock) * sizeof(typename F::BlockType));
  F::Load(copy, g);
}

}  // namespace stoker::avx2
