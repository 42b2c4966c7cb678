#pragma once

// IEEE half and bfloat16 bits to and from f32, portable and exact (to f32) or rounded to nearest
// even (from f32). Pure functions, thread-safe. The vector kernels use the hardware conversions,
// which agree with these bit for bit except for the payload of NaNs.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/dtype.h"

namespace stoker {

inline float F16ToF32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  if (magnitude >= 0x0400u) {  // normal: rebias the exponent from 15 to 127
    return std::bit_cast<float>(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
  }
  // Subnormal: magnitude units of 2^-24, exact in f32.
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

inline uint16_t F32ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {
    // Subnormal result: adding 0.5 aligns the unit of 2^-24 with the last mantissa bit, so the
    // addition itself rounds to nearest even.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign |
                               ((magnitude - ((127u - 15u) << 23) + 0x0fffu + odd) >> 13));
}

inline float BF16ToF32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline uint16_t F32ToBF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The value of an element of type F32, F16 or BF16, at any address.
template <DType kType>
float ReadPlain(const std::byte* element) {
  if constexpr (kType == DType::kF32) {
    float value;
    std::memcpy(&value, element, sizeof(value));
    return value;
  } else {
    static_assert(kType == DType::kF16 || kType == DType::kBF16);
    uint16_t half;
    std::memcpy(&half, element, sizeof(half));
    return kType == DType::kF16 ? F16ToF32(half) : BF16ToF32(half);
  }
}

}  // namespace stoker
