#include "runtime/kernels/scalar/unpack.h"

#include <cstring>

#include "mmap/block_formats.h"
#include "mmap/half.h"
#include "numa/check.h"

namespace stoker::scalar {
namespace {

// Sets scale and add of `count` sub-blocks of 16 from sub-block `first` on.
void SetScales(UnpackedGroup* out, int first, int count, float scale, float add) {
  for (int s = first; s < first + count; ++s) {
    out->scale[s] = scale;
    out->add[s] = add;
  }
}

uint32_t HighBits(const uint8_t (&qh)[4]) {
  uint32_t bits;
  std::memcpy(&bits, qh, sizeof(bits));
  return bits;
}

// 32-element formats; b is the block's index in the group.

void Unpack(const BlockQ4_0& block, int b, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  SetScales(out, 2 * b, 2, d, -8.0f * d);
  for (int j = 0; j < 32; ++j) {
    out->codes[32 * b + j] = (block.qs[j % 16] >> (4 * (j / 16))) & 15;
  }
}

void Unpack(const BlockQ4_1& block, int b, UnpackedGroup* out) {
  SetScales(out, 2 * b, 2, F16ToF32(block.d), F16ToF32(block.m));
  for (int j = 0; j < 32; ++j) {
    out->codes[32 * b + j] = (block.qs[j % 16] >> (4 * (j / 16))) & 15;
  }
}

void Unpack(const BlockQ5_0& block, int b, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  const uint32_t high = HighBits(block.qh);
  SetScales(out, 2 * b, 2, d, -16.0f * d);
  for (int j = 0; j < 32; ++j) {
    const uint32_t low = (block.qs[j % 16] >> (4 * (j / 16))) & 15u;
    out->codes[32 * b + j] = static_cast<uint8_t>(low | (((high >> j) & 1u) << 4));
  }
}

void Unpack(const BlockQ5_1& block, int b, UnpackedGroup* out) {
  const uint32_t high = HighBits(block.qh);
  SetScales(out, 2 * b, 2, F16ToF32(block.d), F16ToF32(block.m));
  for (int j = 0; j < 32; ++j) {
    const uint32_t low = (block.qs[j % 16] >> (4 * (j / 16))) & 15u;
    out->codes[32 * b + j] = static_cast<uint8_t>(low | (((high >> j) & 1u) << 4));
  }
}

void Unpack(const BlockQ8_0& block, int b, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  SetScales(out, 2 * b, 2, d, -128.0f * d);
  for (int j = 0; j < 32; ++j) out->codes[32 * b + j] = static_cast<uint8_t>(block.qs[j] + 128);
}

void Unpack(const BlockInt8Row& block, int b, UnpackedGroup* out) {
  SetScales(out, 2 * b, 2, 1.0f, -128.0f);
  for (int j = 0; j < 32; ++j) out->codes[32 * b + j] = static_cast<uint8_t>(block.qs[j] + 128);
}

void Unpack(const BlockIQ4_NL& block, int b, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  SetScales(out, 2 * b, 2, d, -128.0f * d);
  for (int j = 0; j < 32; ++j) {
    const int q = (block.qs[j % 16] >> (4 * (j / 16))) & 15;
    out->codes[32 * b + j] = static_cast<uint8_t>(kIq4Levels[q] + 128);
  }
}

// 256-element formats.

void Unpack(const BlockQ2_K& block, int, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  for (int s = 0; s < 16; ++s) {
    SetScales(out, s, 1, d * static_cast<float>(block.scales[s] & 15),
              -(dmin * static_cast<float>(block.scales[s] >> 4)));
  }
  for (int i = 0; i < 256; ++i) {
    out->codes[i] = (block.qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3;
  }
}

void Unpack(const BlockQ3_K& block, int, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(UnpackQ3Scale(block.scales, s) - 32);
    SetScales(out, s, 1, scale, -4.0f * scale);
  }
  for (int i = 0; i < 256; ++i) {
    const int low = (block.qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3;
    const int high = (block.hmask[i % 32] >> (i / 32)) & 1;
    out->codes[i] = static_cast<uint8_t>(low | (high << 2));
  }
}

// Q4_K and Q5_K share the scale packing.
template <typename Block>
void SetSixBitScales(const Block& block, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  for (int b = 0; b < 8; ++b) {
    uint8_t sc = 0;
    uint8_t mn = 0;
    UnpackScaleMin(block.scales, b, &sc, &mn);
    SetScales(out, 2 * b, 2, d * static_cast<float>(sc), -(dmin * static_cast<float>(mn)));
  }
}

void Unpack(const BlockQ4_K& block, int, UnpackedGroup* out) {
  SetSixBitScales(block, out);
  for (int i = 0; i < 256; ++i) {
    out->codes[i] = (block.qs[32 * (i / 64) + i % 32] >> (4 * (i % 64 / 32))) & 15;
  }
}

void Unpack(const BlockQ5_K& block, int, UnpackedGroup* out) {
  SetSixBitScales(block, out);
  for (int i = 0; i < 256; ++i) {
    const int low = (block.qs[32 * (i / 64) + i % 32] >> (4 * (i % 64 / 32))) & 15;
    const int high = (block.qh[i % 32] >> (i / 32)) & 1;
    out->codes[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

void Unpack(const BlockQ6_K& block, int, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(block.scales[s]);
    SetScales(out, s, 1, scale, -32.0f * scale);
  }
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int part = i % 128 / 32;
    const int low = (block.ql[64 * half + 32 * (part % 2) + i % 32] >> (4 * (part / 2))) & 15;
    const int high = (block.qh[32 * half + i % 32] >> (2 * part)) & 3;
    out->codes[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

void Unpack(const BlockIQ4_XS& block, int, UnpackedGroup* out) {
  const float d = F16ToF32(block.d);
  for (int b = 0; b < 8; ++b) {
    const float scale = d * static_cast<float>(UnpackIq4Scale(block, b) - 32);
    SetScales(out, 2 * b, 2, scale, -128.0f * scale);
    for (int j = 0; j < 32; ++j) {
      const int q = (block.qs[16 * b + j % 16] >> (4 * (j / 16))) & 15;
      out->codes[32 * b + j] = static_cast<uint8_t>(kIq4Levels[q] + 128);
    }
  }
}

template <typename Block, int kElements>
void UnpackBlocks(const std::byte* bytes, int64_t n, UnpackedGroup* out) {
  const auto* blocks = reinterpret_cast<const Block*>(bytes);
  for (int b = 0; b < n / kElements; ++b) Unpack(blocks[b], b, out);
}

}  // namespace

void UnpackGroup(DType type, const std::byte* blocks, int64_t n, UnpackedGroup* out) {
  if (n < 256) std::memset(out, 0, sizeof(*out));
  switch (type) {
    case DType::kQ4_0: return UnpackBlocks<BlockQ4_0, 32>(blocks, n, out);
    case DType::kQ4_1: return UnpackBlocks<BlockQ4_1, 32>(blocks, n, out);
    case DType::kQ5_0: return UnpackBlocks<BlockQ5_0, 32>(blocks, n, out);
    case DType::kQ5_1: return UnpackBlocks<BlockQ5_1, 32>(blocks, n, out);
    case DType::kQ8_0: return UnpackBlocks<BlockQ8_0, 32>(blocks, n, out);
    case DType::kInt8Row: return UnpackBlocks<BlockInt8Row, 32>(blocks, n, out);
    case DType::kIQ4_NL: return UnpackBlocks<BlockIQ4_NL, 32>(blocks, n, out);
    case DType::kQ2_K: return UnpackBlocks<BlockQ2_K, 256>(blocks, n, out);
    case DType::kQ3_K: return UnpackBlocks<BlockQ3_K, 256>(blocks, n, out);
    case DType::kQ4_K: return UnpackBlocks<BlockQ4_K, 256>(blocks, n, out);
    case DType::kQ5_K: return UnpackBlocks<BlockQ5_K, 256>(blocks, n, out);
    case DType::kQ6_K: return UnpackBlocks<BlockQ6_K, 256>(blocks, n, out);
    case DType::kIQ4_XS: return UnpackBlocks<BlockIQ4_XS, 256>(blocks, n, out);
    default: break;
  }
  STOKER_CHECK_MSG(false, "UnpackGroup: type has no integer codes");
}

}  // namespace stoker::scalar
