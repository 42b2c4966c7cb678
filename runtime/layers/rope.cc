#include "runtime/layers/rope.h"

#include <cmath>

namespace stoker {

Rope::Rope(int64_t rotary_dim, double theta) {
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim);
    inverse_frequency_.push_back(static_cast<float>(1.0 / std::pow(theta, exponent)));
  }
}

void Rope::Angles(int64_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < inverse_frequency_.size(); ++i) {
    // The product is rounded to f32 on purpose; libm's double functions reduce it accurately.
    const float angle = static_cast<float>(position) * inverse_frequency_[i];
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

void Rope::Apply(const float* cos, const float* sin, float* head) const {
  const size_t n = inverse_frequency_.size();
  for (size_t i = 0; i < n; ++i) {
    const float a = head[i];
    const float b = head[i + n];
    head[i] = a * cos[i] - b * sin[i];
    head[i + n] = b * cos[i] + a * sin[i];
  }
}

}  // namespace stoker
