#pragma once

// Activations to int8, written once for every vector width: see quantize_q8 (kernel_table.h). Every
// step is exact or correctly rounded as in the scalar version, so the values agree with it bit for
// bit. `Isa` names the lanes and supplies what only this needs:
//   Abs(v)
//   Unordered       a mask of lanes, empty at first; Add(v) adds those that are NaN, any()
//   Quantize(x, factor, codes)   sixteen values times factor, rounded to nearest even; their sum

#include <cstdint>
#include <cstring>
#include <limits>

#include "runtime/kernels/activation_rows.h"

namespace stoker {

template <typename Isa>
void QuantizeQ8Body(const float* x, int64_t n, int8_t* codes, float* scale,
                    int16_t* sums) noexcept {
  using L = typename Isa::Lanes;
  typename L::F32 largest = L::Zero();
  typename Isa::Unordered unordered;
  for (int64_t i = 0; i < n; i += L::kWidth) {
    const typename L::F32 v = L::Load(x + i);
    largest = L::Max(largest, Isa::Abs(v));
    unordered.Add(v);
  }
  const float max = L::Largest(largest);
  const bool finite = !unordered.any() && max <= std::numeric_limits<float>::max();
  const bool zero = !finite || max < kSmallestQ8Max;
  *scale = !finite ? std::numeric_limits<float>::quiet_NaN() : zero ? 0.0f : max / 127.0f;
  const int64_t n_codes = zero ? 0 : n;
  std::memset(codes + n_codes, 0, static_cast<size_t>(kGroup - n_codes));
  const typename L::F32 factor = L::Set(zero ? 0.0f : 127.0f / max);
  for (int64_t s = 0; s < kSubBlocksPerGroup; ++s) {
    const int64_t at = kSubBlock * s;
    sums[s] = at < n_codes ? static_cast<int16_t>(Isa::Quantize(x + at, factor, codes + at))
                           : int16_t{0};
  }
  for (int64_t s = 0; s < kSubBlocksPerGroup; s += 2) {
    sums[kSubBlocksPerGroup + s / 2] = static_cast<int16_t>(sums[s] + sums[s + 1]);
  }
}

}  // namespace stoker
