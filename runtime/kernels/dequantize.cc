#include "runtime/kernels/dequantize.h"

#include <cstring>

#include "mmap/block_formats.h"
#include "mmap/half.h"
#include "numa/check.h"

// Each Decode overload writes the elements of one block. The order of the roundings (scale times
// sub-scale first, then times the code, then minus the minimum) is that of the format's reference
// tools, so the values agree with theirs bit for bit; the file is compiled without contraction.

namespace stoker {
namespace {

void Decode(const BlockQ4_0& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block.qs[j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block.qs[j] >> 4) - 8);
  }
}

void Decode(const BlockQ4_1& block, float* out) {
  const float d = F16ToF32(block.d);
  const float m = F16ToF32(block.m);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block.qs[j] & 15) + m;
    out[j + 16] = d * static_cast<float>(block.qs[j] >> 4) + m;
  }
}

void Decode(const BlockQ5_0& block, float* out) {
  const float d = F16ToF32(block.d);
  uint32_t high;
  std::memcpy(&high, block.qh, sizeof(high));
  for (int j = 0; j < 16; ++j) {
    const int first = (block.qs[j] & 15) | static_cast<int>(((high >> j) & 1u) << 4);
    const int second = (block.qs[j] >> 4) | static_cast<int>(((high >> (j + 16)) & 1u) << 4);
    out[j] = d * static_cast<float>(first - 16);
    out[j + 16] = d * static_cast<float>(second - 16);
  }
}

void Decode(const BlockQ5_1& block, float* out) {
  const float d = F16ToF32(block.d);
  const float m = F16ToF32(block.m);
  uint32_t high;
  std::memcpy(&high, block.qh, sizeof(high));
  for (int j = 0; j < 16; ++j) {
    const int first = (block.qs[j] & 15) | static_cast<int>(((high >> j) & 1u) << 4);
    const int second = (block.qs[j] >> 4) | static_cast<int>(((high >> (j + 16)) & 1u) << 4);
    out[j] = d * static_cast<float>(first) + m;
    out[j + 16] = d * static_cast<float>(second) + m;
  }
}

void Decode(const BlockQ8_0& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(block.qs[j]);
}

void Decode(const BlockInt8Row& block, float* out) {
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(block.qs[j]);
}

void Decode(const BlockIQ4_NL& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(kIq4Levels[block.qs[j] & 15]);
    out[j + 16] = d * static_cast<float>(kIq4Levels[block.qs[j] >> 4]);
  }
}

void Decode(const BlockQ2_K& block, float* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int shift = 2 * (i % 128 / 32);
    const int q = (block.qs[32 * half + i % 32] >> shift) & 3;
    const float scale = d * static_cast<float>(block.scales[i / 16] & 15);
    const float minimum = dmin * static_cast<float>(block.scales[i / 16] >> 4);
    out[i] = scale * static_cast<float>(q) - minimum;
  }
}

void Decode(const BlockQ3_K& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int shift = 2 * (i % 128 / 32);
    const int low = (block.qs[32 * half + i % 32] >> shift) & 3;
    const int high = (block.hmask[i % 32] >> (i / 32)) & 1;
    const float scale = d * static_cast<float>(UnpackQ3Scale(block.scales, i / 16) - 32);
    out[i] = scale * static_cast<float>((low | (high << 2)) - 4);
  }
}

void Decode(const BlockQ4_K& block, float* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  for (int b = 0; b < 8; ++b) {
    uint8_t sc = 0;
    uint8_t mn = 0;
    UnpackScaleMin(block.scales, b, &sc, &mn);
    const float scale = d * static_cast<float>(sc);
    const float minimum = dmin * static_cast<float>(mn);
    for (int j = 0; j < 32; ++j) {
      const int q = (block.qs[32 * (b / 2) + j] >> (4 * (b % 2))) & 15;
      out[32 * b + j] = scale * static_cast<float>(q) - minimum;
    }
  }
}

void Decode(const BlockQ5_K& block, float* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  for (int b = 0; b < 8; ++b) {
    uint8_t sc = 0;
    uint8_t mn = 0;
    UnpackScaleMin(block.scales, b, &sc, &mn);
    const float scale = d * static_cast<float>(sc);
    const float minimum = dmin * static_cast<float>(mn);
    for (int j = 0; j < 32; ++j) {
      const int low = (block.qs[32 * (b / 2) + j] >> (4 * (b % 2))) & 15;
      const int high = (block.qh[j] >> b) & 1;
      out[32 * b + j] = scale * static_cast<float>(low | (high << 4)) - minimum;
    }
  }
}

void Decode(const BlockQ6_K& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int part = i % 128 / 32;
    const int j = i % 32;
    const int low = (block.ql[64 * half + 32 * (part % 2) + j] >> (4 * (part / 2))) & 15;
    const int high = (block.qh[32 * half + j] >> (2 * part)) & 3;
    const float scale = d * static_cast<float>(block.scales[i / 16]);
    out[i] = scale * static_cast<float>((low | (high << 4)) - 32);
  }
}

void Decode(const BlockIQ4_XS& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int b = 0; b < 8; ++b) {
    const float scale = d * static_cast<float>(UnpackIq4Scale(block, b) - 32);
    for (int j = 0; j < 16; ++j) {
      const uint8_t pair = block.qs[16 * b + j];
      out[32 * b + j] = scale * static_cast<float>(kIq4Levels[pair & 15]);
      out[32 * b + 16 + j] = scale * static_cast<float>(kIq4Levels[pair >> 4]);
    }
  }
}

template <typename Block, int kElements>
void DecodeRow(const std::byte* row, float* out, int64_t n) {
  STOKER_CHECK(n % kElements == 0);
  const auto* blocks = reinterpret_cast<const Block*>(row);
  for (int64_t b = 0; b < n / kElements; ++b) Decode(blocks[b], out + b * kElements);
}

}  // namespace

void DequantizeRow(DType type, const std::byte* row, float* out, int64_t n) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, row, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = ReadPlain<DType::kF16>(row + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) out[i] = ReadPlain<DType::kBF16>(row + 2 * i);
      return;
    case DType::kQ4_0: return DecodeRow<BlockQ4_0, 32>(row, out, n);
    case DType::kQ4_1: return DecodeRow<BlockQ4_1, 32>(row, out, n);
    case DType::kQ5_0: return DecodeRow<BlockQ5_0, 32>(row, out, n);
    case DType::kQ5_1: return DecodeRow<BlockQ5_1, 32>(row, out, n);
    case DType::kQ8_0: return DecodeRow<BlockQ8_0, 32>(row, out, n);
    case DType::kInt8Row: return DecodeRow<BlockInt8Row, 32>(row, out, n);
    case DType::kIQ4_NL: return DecodeRow<BlockIQ4_NL, 32>(row, out, n);
    case DType::kQ2_K: return DecodeRow<BlockQ2_K, 256>(row, out, n);
    case DType::kQ3_K: return DecodeRow<BlockQ3_K, 256>(row, out, n);
    case DType::kQ4_K: return DecodeRow<BlockQ4_K, 256>(row, out, n);
    case DType::kQ5_K: return DecodeRow<BlockQ5_K, 256>(row, out, n);
    case DType::kQ6_K: return DecodeRow<BlockQ6_K, 256>(row, out, n);
    case DType::kIQ4_XS: return DecodeRow<BlockIQ4_XS, 256>(row, out, n);
    default: break;
  }
  STOKER_CHECK_MSG(false, "DequantizeRow: type has no kernel");
}

}  // namespace stoker
