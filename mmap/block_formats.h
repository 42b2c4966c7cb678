#pragma once

// The packed block layouts of quantised tensors as they lie in GGUF files: one struct per type,
// exactly its bytes, no padding. Each comment gives the value of element i of the block. Layouts
// only: decoding is the business of runtime/kernels. `f16` fields hold IEEE half bits. Blocks have
// alignment 1, so a pointer into a mapped file may be cast to any of these.

#include <cstdint>

namespace stoker {

// Elements per block of the plain formats and per super-block of the K formats.
inline constexpr int kBlock32 = 32;
inline constexpr int kBlock256 = 256;

// Code book of the IQ4 formats: code -> signed level.
inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

#pragma pack(push, 1)

// Formats of 32 elements. Element i < 16 is the low nibble of qs[i], element i + 16 the high one.

struct BlockQ4_0 {  // d * (q - 8)
  uint16_t d;       // f16
  uint8_t qs[16];
};

struct BlockQ4_1 {  // d * q + m
  uint16_t d;       // f16
  uint16_t m;       // f16
  uint8_t qs[16];
};

struct BlockQ5_0 {  // d * (q - 16), bit 4 of element i is bit i of the little-endian word qh
  uint16_t d;       // f16
  uint8_t qh[4];
  uint8_t qs[16];
};

struct BlockQ5_1 {  // d * q + m, fifth bits as in Q5_0
  uint16_t d;       // f16
  uint16_t m;       // f16
  uint8_t qh[4];
  uint8_t qs[16];
};

struct BlockQ8_0 {  // d * q
  uint16_t d;       // f16
  int8_t qs[32];
};

struct BlockInt8Row {  // q, times the scale of the row
  int8_t qs[32];
};

struct BlockIQ4_NL {  // d * kIq4Levels[q]
  uint16_t d;         // f16
  uint8_t qs[16];
};

// Formats of 256 elements.

// d * (scales[i / 16] & 15) * q - dmin * (scales[i / 16] >> 4). Element i = 128 h + 32 s + j is
// bits 2s, 2s + 1 of qs[32 h + j].
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;     // f16
  uint16_t dmin;  // f16
};

// d * (sc[i / 16] - 32) * (q - 4). The low two bits of q as in Q2_K; bit 2 of element
// i = 32 b + j is bit b of hmask[j]. The 6-bit sc[s] has its low four bits in scales[s % 8] (low
// nibble for s < 8, else high) and its high two in bits 2 (s / 4) of scales[8 + s % 4].
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;  // f16
};

// d * sc[i / 32] * q - dmin * mn[i / 32]. Element i = 64 c + j is the low nibble of qs[32 c + j]
// for j < 32, element 64 c + 32 + j its high one. The 6-bit sc and mn: see UnpackScaleMin.
struct BlockQ4_K {
  uint16_t d;     // f16
  uint16_t dmin;  // f16
  uint8_t scales[12];
  uint8_t qs[128];
};

// As Q4_K with a fifth bit: of element i = 32 b + j it is bit b of qh[j].
struct BlockQ5_K {
  uint16_t d;     // f16
  uint16_t dmin;  // f16
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};

// d * scales[i / 16] * (q - 32). With i = 128 h + 32 s + j: the low four bits of q are the low
// (s < 2) or high nibble of ql[64 h + 32 (s % 2) + j], the high two bits 2s, 2s + 1 of
// qh[32 h + j].
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;  // f16
};

// d * (sc[b] - 32) * kIq4Levels[q], b = i / 32. Within a group of 32, elements j < 16 are low
// nibbles of qs[16 b + j], elements 16 + j high ones. sc[b]: low four bits in nibble b of scales_l,
// high two in bits 2b of scales_h.
struct BlockIQ4_XS {
  uint16_t d;  // f16
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

#pragma pack(pop)

static_assert(sizeof(BlockQ4_0) == 18);
static_assert(sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockInt8Row) == 32);
static_assert(sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_XS) == 136);

// The 6-bit scale and minimum of group b (0..7) of Q4_K and Q5_K. Groups 0..3 lie whole in bytes b
// and b + 4; groups 4..7 have low nibbles in byte b + 4 and their top bits in the spare two bits of
// bytes b - 4 (scale) and b (minimum).
inline void UnpackScaleMin(const uint8_t* scales, int b, uint8_t* scale, uint8_t* minimum) {
  if (b < 4) {
    *scale = scales[b] & 63;
    *minimum = scales[b + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((scales[b + 4] & 15) | ((scales[b - 4] >> 6) << 4));
    *minimum = static_cast<uint8_t>((scales[b + 4] >> 4) | ((scales[b] >> 6) << 4));
  }
}

// The 6-bit scale (offset 32 included) of sub-block s (0..15) of Q3_K.
inline uint8_t UnpackQ3Scale(const uint8_t* scales, int s) {
  const int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
  const int high = (scales[8 + s % 4] >> (2 * (s / 4))) & 3;
  return static_cast<uint8_t>(low | (high << 4));
}

// The 6-bit scale (offset 32 included) of group b (0..7) of IQ4_XS.
inline uint8_t UnpackIq4Scale(const BlockIQ4_XS& block, int b) {
  const int low = (block.scales_l[b / 2] >> (4 * (b % 2))) & 15;
  const int high = (block.scales_h >> (2 * b)) & 3;
  return static_cast<uint8_t>(low | (high << 4));
}

}  // namespace stoker
