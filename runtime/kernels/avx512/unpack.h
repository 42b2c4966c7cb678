#pragma once

// Quantised blocks to registers: 256 elements of a row become four vectors of unsigned codes in the
// order of the row and, per 16 elements, a scale and an additive term (w = scale * code + add), as
// in scalar/unpack.h. Only for files compiled with the AVX-512 flags.
//
// The codes of formats that keep several elements in one byte come out in order without a shuffle:
// a 32-byte load is broadcast to both halves of the register and each half shifted on its own.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/block_formats.h"
#include "mmap/dtype.h"
#include "runtime/kernels/inline.h"

namespace stoker::avx512 {

struct Group {
  __m512i codes[4];  // u8, elements 64 c .. 64 c + 63
  __m512 scale;      // lane s: elements 16 s .. 16 s + 15
  __m512 add;
};

STOKER_INLINE __m512i Byte(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }

// Per-half 64-bit shift counts: `low` for elements 0..31 of a chunk, `high` for 32..63.
STOKER_INLINE __m512i Halves(int64_t low, int64_t high) {
  return _mm512_set_epi64(high, high, high, high, low, low, low, low);
}

STOKER_INLINE __m512i LoadTwice(const uint8_t* bytes) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
}

STOKER_INLINE float HalfToFloat(uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

// a | (b & mask).
STOKER_INLINE __m512i OrMasked(__m512i a, __m512i b, __m512i mask) {
  return _mm512_ternarylogic_epi64(a, b, mask, 0xf8);
}

// Eight values, each for two neighbouring sub-blocks of 16.
STOKER_INLINE __m512 Twice(__m256 values) {
  const __m512i index = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(values));
}

// The field `kOffset` bytes into each of eight consecutive blocks, as floats, twice each.
template <typename Block, size_t kOffset>
STOKER_INLINE __m512 BlockHalves(const Block* blocks) {
  uint16_t d[8];
  for (int b = 0; b < 8; ++b) {
    std::memcpy(&d[b], reinterpret_cast<const uint8_t*>(blocks + b) + kOffset, sizeof(d[b]));
  }
  const __m128i packed =
      _mm_set_epi16(static_cast<short>(d[7]), static_cast<short>(d[6]), static_cast<short>(d[5]),
                    static_cast<short>(d[4]), static_cast<short>(d[3]), static_cast<short>(d[2]),
                    static_cast<short>(d[1]), static_cast<short>(d[0]));
  return Twice(_mm256_cvtph_ps(packed));
}

// The nibbles of two 16-byte arrays: low nibbles of the first, high ones of the first, then those
// of the second.
STOKER_INLINE __m512i TwoNibbleBlocks(const uint8_t* first, const uint8_t* second) {
  const __m256i a = _mm256_broadcastsi128_si256(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
  const __m256i b = _mm256_broadcastsi128_si256(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  const __m512i count = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
  return _mm512_and_si512(_mm512_srlv_epi64(both, count), Byte(15));
}

// kIq4Levels + 128 as unsigned codes.
STOKER_INLINE __m512i Iq4Codes(__m512i nibbles) {
  const __m128i levels =
      _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Levels)),
                    _mm_set1_epi8(static_cast<char>(0x80)));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), nibbles);
}

// Format<type>: kGroupBytes, the bytes of 256 elements; kBlock, the elements of one block;
// kOffset, what signed formats add to their codes (0: the format has minima instead); Load.
template <DType>
struct Format;

template <typename Block, int elements, int offset>
struct FormatBase {
  using BlockType = Block;
  static constexpr int kBlock = elements;
  static constexpr float kOffset = offset;
  static constexpr int64_t kGroupBytes = 256 / elements * static_cast<int64_t>(sizeof(Block));

  static STOKER_INLINE void AddFromOffset(Group* g) {
    g->add = _mm512_mul_ps(g->scale, _mm512_set1_ps(-kOffset));
  }
};

template <>
struct Format<DType::kQ4_0> : FormatBase<BlockQ4_0, 32, 8> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ4_0*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) g.codes[c] = TwoNibbleBlocks(b[2 * c].qs, b[2 * c + 1].qs);
    g.scale = BlockHalves<BlockQ4_0, offsetof(BlockQ4_0, d)>(b);
    AddFromOffset(&g);
    return g;
  }
};

template <>
struct Format<DType::kQ4_1> : FormatBase<BlockQ4_1, 32, 0> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ4_1*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) g.codes[c] = TwoNibbleBlocks(b[2 * c].qs, b[2 * c + 1].qs);
    g.scale = BlockHalves<BlockQ4_1, offsetof(BlockQ4_1, d)>(b);
    g.add = BlockHalves<BlockQ4_1, offsetof(BlockQ4_1, m)>(b);
    return g;
  }
};

// Nibbles of two Q5 blocks with 16 added where the fifth bit is set.
template <typename Block>
STOKER_INLINE __m512i TwoQ5Blocks(const Block* b) {
  uint32_t low;
  uint32_t high;
  std::memcpy(&low, b[0].qh, sizeof(low));
  std::memcpy(&high, b[1].qh, sizeof(high));
  const __mmask64 bits = low | (static_cast<uint64_t>(high) << 32);
  const __m512i nibbles = TwoNibbleBlocks(b[0].qs, b[1].qs);
  return _mm512_mask_add_epi8(nibbles, bits, nibbles, Byte(16));
}

template <>
struct Format<DType::kQ5_0> : FormatBase<BlockQ5_0, 32, 16> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ5_0*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) g.codes[c] = TwoQ5Blocks(b + 2 * c);
    g.scale = BlockHalves<BlockQ5_0, offsetof(BlockQ5_0, d)>(b);
    AddFromOffset(&g);
    return g;
  }
};

template <>
struct Format<DType::kQ5_1> : FormatBase<BlockQ5_1, 32, 0> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ5_1*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) g.codes[c] = TwoQ5Blocks(b + 2 * c);
    g.scale = BlockHalves<BlockQ5_1, offsetof(BlockQ5_1, d)>(b);
    g.add = BlockHalves<BlockQ5_1, offsetof(BlockQ5_1, m)>(b);
    return g;
  }
};

template <>
struct Format<DType::kQ8_0> : FormatBase<BlockQ8_0, 32, 128> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ8_0*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) {
      const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b[2 * c].qs));
      const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b[2 * c + 1].qs));
      g.codes[c] = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1),
                                    Byte(0x80));
    }
    g.scale = BlockHalves<BlockQ8_0, offsetof(BlockQ8_0, d)>(b);
    AddFromOffset(&g);
    return g;
  }
};

template <>
struct Format<DType::kInt8Row> : FormatBase<BlockInt8Row, 32, 128> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    Group g;
    for (int c = 0; c < 4; ++c) {
      g.codes[c] = _mm512_xor_si512(_mm512_loadu_si512(bytes + 64 * c), Byte(0x80));
    }
    g.scale = _mm512_set1_ps(1.0f);
    AddFromOffset(&g);
    return g;
  }
};

template <>
struct Format<DType::kIQ4_NL> : FormatBase<BlockIQ4_NL, 32, 128> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockIQ4_NL*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) {
      g.codes[c] = Iq4Codes(TwoNibbleBlocks(b[2 * c].qs, b[2 * c + 1].qs));
    }
    g.scale = BlockHalves<BlockIQ4_NL, offsetof(BlockIQ4_NL, d)>(b);
    AddFromOffset(&g);
    return g;
  }
};

template <>
struct Format<DType::kQ2_K> : FormatBase<BlockQ2_K, 256, 0> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ2_K*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) {
      const int shift = 4 * (c % 2);
      g.codes[c] = _mm512_and_si512(
          _mm512_srlv_epi64(LoadTwice(b->qs + 32 * (c / 2)), Halves(shift, shift + 2)), Byte(3));
    }
    const __m512i packed =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b->scales)));
    const __m512i low = _mm512_and_si512(packed, _mm512_set1_epi32(15));
    const __m512i high = _mm512_srli_epi32(packed, 4);
    g.scale = _mm512_mul_ps(_mm512_cvtepi32_ps(low), _mm512_set1_ps(HalfToFloat(b->d)));
    g.add = _mm512_mul_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(-HalfToFloat(b->dmin)));
    return g;
  }
};

template <>
struct Format<DType::kQ3_K> : FormatBase<BlockQ3_K, 256, 4> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ3_K*>(bytes);
    Group g;
    const __m512i high_bits = LoadTwice(b->hmask);
    for (int c = 0; c < 4; ++c) {
      const int shift = 4 * (c % 2);
      const __m512i low = _mm512_and_si512(
          _mm512_srlv_epi64(LoadTwice(b->qs + 32 * (c / 2)), Halves(shift, shift + 2)), Byte(3));
      // Bit 2 c (+ 1 in the upper half) moves to bit 2 of its byte.
      const __m512i high =
          _mm512_rolv_epi64(high_bits, Halves((66 - 2 * c) % 64, (65 - 2 * c) % 64));
      g.codes[c] = OrMasked(low, high, Byte(4));
    }
    uint32_t top;
    std::memcpy(&top, b->scales + 8, sizeof(top));
    const __m128i bottom = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b->scales));
    const __m128i nibbles = _mm_and_si128(
        _mm_unpacklo_epi64(bottom, _mm_srli_epi64(bottom, 4)), _mm_set1_epi8(15));
    const __m128i pairs =
        _mm_and_si128(_mm_srlv_epi32(_mm_set1_epi32(static_cast<int>(top)),
                                     _mm_set_epi32(6, 4, 2, 0)),
                      _mm_set1_epi8(3));
    const __m128i sixbit = _mm_or_si128(nibbles, _mm_slli_epi16(pairs, 4));
    const __m512i sc = _mm512_cvtepi8_epi32(_mm_sub_epi8(sixbit, _mm_set1_epi8(32)));
    g.scale = _mm512_mul_ps(_mm512_cvtepi32_ps(sc), _mm512_set1_ps(HalfToFloat(b->d)));
    AddFromOffset(&g);
    return g;
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
  const __m128i both =
      _mm_set_epi64x(static_cast<long long>(mn), static_cast<long long>(sc));
  const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(both));
  const __m512i low = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  const __m512i high = _mm512_or_si512(low, _mm512_set1_epi32(8));
  g->scale = _mm512_mul_ps(_mm512_permutexvar_ps(low, values), _mm512_set1_ps(HalfToFloat(b->d)));
  g->add =
      _mm512_mul_ps(_mm512_permutexvar_ps(high, values), _mm512_set1_ps(-HalfToFloat(b->dmin)));
}

template <>
struct Format<DType::kQ4_K> : FormatBase<BlockQ4_K, 256, 0> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ4_K*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) {
      g.codes[c] = _mm512_and_si512(
          _mm512_srlv_epi64(LoadTwice(b->qs + 32 * c), Halves(0, 4)), Byte(15));
    }
    LoadSixBitScales(b, &g);
    return g;
  }
};

template <>
struct Format<DType::kQ5_K> : FormatBase<BlockQ5_K, 256, 0> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ5_K*>(bytes);
    Group g;
    const __m512i high_bits = LoadTwice(b->qh);
    for (int c = 0; c < 4; ++c) {
      const __m512i low = _mm512_and_si512(
          _mm512_srlv_epi64(LoadTwice(b->qs + 32 * c), Halves(0, 4)), Byte(15));
      // Bit 2 c (+ 1 in the upper half) moves to bit 4 of its byte.
      const __m512i high =
          _mm512_rolv_epi64(high_bits, Halves((68 - 2 * c) % 64, (67 - 2 * c) % 64));
      g.codes[c] = OrMasked(low, high, Byte(16));
    }
    LoadSixBitScales(b, &g);
    return g;
  }
};

template <>
struct Format<DType::kQ6_K> : FormatBase<BlockQ6_K, 256, 32> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockQ6_K*>(bytes);
    Group g;
    for (int half = 0; half < 2; ++half) {
      const __m512i low = _mm512_loadu_si512(b->ql + 64 * half);
      const __m512i high = LoadTwice(b->qh + 32 * half);
      // The two high bits land on bits 4 and 5: from bits 0, 2 of the byte for the first chunk,
      // 4, 6 for the second.
      g.codes[2 * half] = OrMasked(_mm512_and_si512(low, Byte(15)),
                                   _mm512_sllv_epi64(high, Halves(4, 2)), Byte(0x30));
      g.codes[2 * half + 1] = OrMasked(_mm512_and_si512(_mm512_srli_epi64(low, 4), Byte(15)),
                                       _mm512_srlv_epi64(high, Halves(0, 2)), Byte(0x30));
    }
    const __m512i sc =
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b->scales)));
    g.scale = _mm512_mul_ps(_mm512_cvtepi32_ps(sc), _mm512_set1_ps(HalfToFloat(b->d)));
    AddFromOffset(&g);
    return g;
  }
};

template <>
struct Format<DType::kIQ4_XS> : FormatBase<BlockIQ4_XS, 256, 128> {
  static STOKER_INLINE Group Load(const std::byte* bytes) {
    const auto* b = reinterpret_cast<const BlockIQ4_XS*>(bytes);
    Group g;
    for (int c = 0; c < 4; ++c) {
      g.codes[c] = Iq4Codes(TwoNibbleBlocks(b->qs + 32 * c, b->qs + 32 * c + 16));
    }
    uint32_t low_word;
    std::memcpy(&low_word, b->scales_l, sizeof(low_word));
    const __m256i low = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(low_word)),
                          _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0)),
        _mm256_set1_epi32(15));
    const __m256i high = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h),
                          _mm256_set_epi32(14, 12, 10, 8, 6, 4, 2, 0)),
        _mm256_set1_epi32(3));
    const __m256i sc = _mm256_sub_epi32(_mm256_or_si256(low, _mm256_slli_epi32(high, 4)),
                                        _mm256_set1_epi32(32));
    g.scale = Twice(_mm256_mul_ps(_mm256_cvtepi32_ps(sc), _mm256_set1_ps(HalfToFloat(b->d))));
    AddFromOffset(&g);
    return g;
  }
};

// A whole group at `bytes`, or the first n elements of one (a multiple of 32; only formats of 32
// have partial groups) with zeros behind them.
template <DType kType>
STOKER_INLINE Group LoadPartial(const std::byte* bytes, int64_t n) {
  using F = Format<kType>;
  alignas(64) std::byte copy[F::kGroupBytes] = {};
  std::memcpy(copy, bytes, static_cast<size_t>(n / F::kBlock) * sizeof(typename F::BlockType));
  return F::Load(copy);
}

}  // namespace stoker::avx512
