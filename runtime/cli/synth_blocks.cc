#include "runtime/cli/synth_blocks.h"

#include <array>
#include <cmath>
#include <cstring>

#include "mmap/half.h"
#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr int kScaleChoices = 64;
constexpr int kValueChoices = 4096;
constexpr int kPatternChoices = 256;

// What is random in a block beside its quants: the half scale d, the half offset m that centres
// the quants (m = centre * d), and 12 packed sub-block scales.
class BlockScales {
 public:
  // unit_stddev: standard deviation of a block's values for d = 1. centre: mean of its quants for
  // types with an offset, 0 for the symmetric ones, whose d gets a random sign instead: their
  // quant range is lopsided by one step, which would otherwise add up over a row.
  BlockScales(float stddev, float unit_stddev, float centre) {
    for (int i = 0; i < kScaleChoices; ++i) {
      // Scales vary by +-25 % between blocks; 1.021 is the mean square of the factors.
      const float factor = 0.75f + 0.5f * static_cast<float>(i / 2) / (kScaleChoices / 2 - 1);
      float d = stddev / unit_stddev * factor / std::sqrt(1.021f);
      if (centre == 0.0f && i % 2 == 1) d = -d;
      d_[i] = F32ToF16(d);
      m_[i] = F32ToF16(centre * d);
    }
  }
  uint16_t d(uint64_t random) const { return d_[random % kScaleChoices]; }
  uint16_t m(uint64_t random) const { return m_[random % kScaleChoices]; }

 private:
  std::array<uint16_t, kScaleChoices> d_;
  std::array<uint16_t, kScaleChoices> m_;
};

// 12-byte packings of eight 6-bit scales in 32..63, each used as scale and as minimum of its
// sub-block (Q4_K, Q5_K): with dmin = centre * d the minimum then centres the sub-block exactly.
std::array<std::array<uint8_t, 12>, kPatternChoices> MakeScalePatterns(FastRandom& random) {
  std::array<std::array<uint8_t, 12>, kPatternChoices> patterns;
  for (auto& pattern : patterns) {
    const uint64_t bits = random.Next();
    for (int j = 0; j < 4; ++j) {
      const auto low = static_cast<uint8_t>(32 + ((bits >> (8 * j)) & 31));
      const auto high = static_cast<uint8_t>(32 + ((bits >> (8 * j + 32)) & 31));
      const auto top = static_cast<uint8_t>((high >> 4) << 6);
      pattern[j] = low | top;
      pattern[j + 4] = low | top;
      pattern[j + 8] = static_cast<uint8_t>((high & 15) | (high & 15) << 4);
    }
  }
  return patterns;
}

void FillBytes(FastRandom& random, std::span<std::byte> out) {
  size_t at = 0;
  for (; at + 8 <= out.size(); at += 8) StoreLe(out.data() + at, random.Next());
  if (at < out.size()) {
    const uint64_t last = random.Next();
    std::memcpy(out.data() + at, &last, out.size() - at);
  }
}

void FillF32(float mean, float stddev, FastRandom& random, std::span<std::byte> out) {
  const float unit = stddev * std::sqrt(3.0f) * 0x1p-31f;  // uniform on +-sqrt(3) sigma
  for (size_t at = 0; at < out.size(); at += 4) {
    const auto bits = static_cast<int32_t>(random.Next() >> 32);
    StoreLe(out.data() + at, mean + unit * static_cast<float>(bits));
  }
}

template <typename Convert>
void Fill16Bit(float stddev, FastRandom& random, std::span<std::byte> out, Convert convert) {
  std::array<uint16_t, kValueChoices> table;
  const float step = stddev * std::sqrt(12.0f) / kValueChoices;
  for (int i = 0; i < kValueChoices; ++i) {
    table[i] = convert((static_cast<float>(i) - 0.5f * (kValueChoices - 1)) * step);
  }
  uint64_t bits = 0;
  for (size_t at = 0; at < out.size(); at += 2, bits >>= 16) {
    if (at % 8 == 0) bits = random.Next();
    StoreLe(out.data() + at, table[bits % kValueChoices]);
  }
}

// Calls fix(block, random bits) for every block after filling all of them with random bytes.
template <typename Fix>
void FillBlocks(size_t block_bytes, FastRandom& random, std::span<std::byte> out, Fix fix) {
  FillBytes(random, out);
  for (size_t at = 0; at < out.size(); at += block_bytes) fix(out.data() + at, random.Next());
}

// Types with one half scale, at `offset`.
void FillScaled(size_t block_bytes, size_t offset, const BlockScales& scales, FastRandom& random,
                std::span<std::byte> out) {
  FillBlocks(block_bytes, random, out,
             [&](std::byte* block, uint64_t bits) { StoreLe(block + offset, scales.d(bits)); });
}

// Q4_1, Q5_1: value = d q + m, so m is stored negated.
void FillOffset(size_t block_bytes, const BlockScales& scales, FastRandom& random,
                std::span<std::byte> out) {
  FillBlocks(block_bytes, random, out, [&](std::byte* block, uint64_t bits) {
    StoreLe(block, scales.d(bits));
    StoreLe(block + 2, static_cast<uint16_t>(scales.m(bits) ^ 0x8000u));
  });
}

// Q4_K, Q5_K: {d, dmin, scales[12], ...}.
void FillK45(size_t block_bytes, const BlockScales& scales, FastRandom& random,
             std::span<std::byte> out) {
  const auto patterns = MakeScalePatterns(random);
  FillBlocks(block_bytes, random, out, [&](std::byte* block, uint64_t bits) {
    StoreLe(block, scales.d(bits));
    StoreLe(block + 2, scales.m(bits));
    std::memcpy(block + 4, patterns[(bits >> 32) % kPatternChoices].data(), 12);
  });
}

// Q2_K: {scales[16], qs[64], d, dmin}; low nibble scale, high nibble minimum, here equal and
// in 8..15.
void FillQ2K(const BlockScales& scales, FastRandom& random, std::span<std::byte> out) {
  FillBlocks(84, random, out, [&](std::byte* block, uint64_t bits) {
    for (int half = 0; half < 16; half += 8) {
      uint64_t packed = LoadLe<uint64_t>(block + half);
      packed = (packed & 0x0707070707070707u) | 0x0808080808080808u;
      StoreLe(block + half, packed | packed << 4);
    }
    StoreLe(block + 80, scales.d(bits));
    StoreLe(block + 82, scales.m(bits));
  });
}

// Q8_0: -128 is a code no quantiser makes, and sign tricks of integer kernels break on it.
void FillQ8_0(const BlockScales& scales, FastRandom& random, std::span<std::byte> out) {
  FillBlocks(34, random, out, [&](std::byte* block, uint64_t bits) {
    for (size_t i = 2; i < 34; ++i) {
      if (block[i] == std::byte{0x80}) block[i] = std::byte{0x81};
    }
    StoreLe(block, scales.d(bits));
  });
}

}  // namespace

FastRandom::FastRandom(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9E3779B97F4A7C15u;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    word = z ^ (z >> 31);
  }
}

bool CanFillRandom(DType type) { return Info(type).computable && Info(type).gguf_id >= 0; }

// The unit standard deviations are those of the value formula of each type for d = 1, uniform
// quants q and the scale distribution above: sqrt(E[scale^2] * Var[q]) (or E[(q - zero)^2] where
// the type has no offset). 6-bit scales in 32..63 have mean square 2341.5; signed 6-bit ones 341.5;
// int8 ones 5461.5.
void FillRandom(DType type, float mean, float stddev, FastRandom& random,
                std::span<std::byte> out) {
  STOKER_CHECK(out.size() % Info(type).block_bytes == 0);
  const size_t block_bytes = Info(type).block_bytes;
  switch (type) {
    case DType::kF32:
      return FillF32(mean, stddev, random, out);
    case DType::kF16:
      return Fill16Bit(stddev, random, out, F32ToF16);
    case DType::kBF16:
      return Fill16Bit(stddev, random, out, F32ToBF16);
    case DType::kQ8_0:
      return FillQ8_0({stddev, std::sqrt(5460.5f), 0.0f}, random, out);
    case DType::kQ4_0:
      return FillScaled(block_bytes, 0, {stddev, std::sqrt(21.5f), 0.0f}, random, out);
    case DType::kQ5_0:
      return FillScaled(block_bytes, 0, {stddev, std::sqrt(85.5f), 0.0f}, random, out);
    case DType::kIQ4_NL:
      return FillScaled(block_bytes, 0, {stddev, std::sqrt(4548.0f), 0.0f}, random, out);
    case DType::kIQ4_XS:
      return FillScaled(block_bytes, 0, {stddev, std::sqrt(341.5f * 4548.0f), 0.0f}, random, out);
    case DType::kQ4_1:
      return FillOffset(block_bytes, {stddev, std::sqrt(21.25f), 7.5f}, random, out);
    case DType::kQ5_1:
      return FillOffset(block_bytes, {stddev, std::sqrt(85.25f), 15.5f}, random, out);
    case DType::kQ2_K:
      return FillQ2K({stddev, std::sqrt(137.5f * 1.25f), 1.5f}, random, out);
    case DType::kQ3_K:
      return FillScaled(block_bytes, 108, {stddev, std::sqrt(341.5f * 5.5f), 0.0f}, random, out);
    case DType::kQ4_K:
      return FillK45(block_bytes, {stddev, std::sqrt(2341.5f * 21.25f), 7.5f}, random, out);
    case DType::kQ5_K:
      return FillK45(block_bytes, {stddev, std::sqrt(2341.5f * 85.25f), 15.5f}, random, out);
    case DType::kQ6_K:
      return FillScaled(block_bytes, 208, {stddev, std::sqrt(5461.5f * 341.5f), 0.0f}, random, out);
    default:
      STOKER_CHECK_MSG(false, "a type FillRandom cannot make");
  }
}

}  // namespace stoker
