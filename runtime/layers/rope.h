#pragma once

// Rotary position embedding on the first rotary_dim components of a head, half-split pairing
// ("NeoX", arXiv:2104.09864): component i turns with i + R/2 by the angle pos * theta^(-2i/R). As
// the vendor does, the inverse frequency and the angle are f32 and the sine of that f32 angle is
// exact. No table: M1 declares ten million positions. Immutable; thread-safe.

#include <cstdint>
#include <vector>

namespace stoker {

class Rope {
 public:
  Rope(int64_t rotary_dim, double theta);

  // cos and sin [R/2] for a position.
  void Angles(int64_t position, float* cos, float* sin) const;
  // Turns one head in place: head [>= R].
  void Apply(const float* cos, const float* sin, float* head) const;

  int64_t half() const { return static_cast<int64_t>(inverse_frequency_.size()); }

 private:
  std::vector<float> inverse_frequency_;  // [R/2]
};

}  // namespace stoker
