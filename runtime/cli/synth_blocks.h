#pragma once

// Random weights written directly as quantised blocks: random quants, scales chosen so that the
// dequantised values have a wanted standard deviation and mean zero. Much faster than quantising
// floats, and every block is one a quantiser could have made. Pure and deterministic: the
// bytes depend on the seed and the arguments only. Thread-safe.

#include <cstddef>
#include <cstdint>
#include <span>

#include "mmap/dtype.h"

namespace stoker {

// xoshiro256++ (Blackman, Vigna: Scrambled linear pseudorandom number generators), seeded through
// splitmix64. Fast and good enough for weights; not for secrets.
class FastRandom {
 public:
  explicit FastRandom(uint64_t seed);
  uint64_t Next() {
    const uint64_t result = Rotate(state_[0] + state_[3], 23) + state_[0];
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = Rotate(state_[3], 45);
    return result;
  }

 private:
  static uint64_t Rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
  uint64_t state_[4];
};

// Whether FillRandom can make blocks of this type.
bool CanFillRandom(DType type);

// Fills `out`, a whole number of blocks of `type`, with weights of the given mean (F32 only; other
// types have mean zero) and standard deviation.
void FillRandom(DType type, float mean, float stddev, FastRandom& random, std::span<std::byte> out);

}  // namespace stoker
