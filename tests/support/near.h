#pragma once

// Floating-point comparison for tests: the same call in both Catch2 versions, which moved Approx.

#include <algorithm>
#include <cmath>

namespace stoker::test {

// |a - b| within the tolerance, relative to the larger of both and 1.
inline bool Near(double a, double b, double tolerance = 1e-5) {
  return std::fabs(a - b) <= tolerance * std::max({1.0, std::fabs(a), std::fabs(b)});
}

}  // namespace stoker::test
