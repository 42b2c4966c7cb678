#pragma once

// Floating-point comparison for tests: the same call in both Catch2 versions, which moved Approx.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "tests/support/catch.h"

namespace stoker::test {

// |a - b| within the tolerance, relative to the larger of both and 1.
inline bool Near(double a, double b, double tolerance = 1e-5) {
  return std::fabs(a - b) <= tolerance * std::max({1.0, std::fabs(a), std::fabs(b)});
}

// The largest |got - expected| of two sequences of one length, relative to the largest |expected|;
// infinite if a value of `got` is not a number.
template <typename Got, typename Expected>
double RelativeError(const Got& got, const Expected& expected) {
  REQUIRE(got.size() == expected.size());
  double error = 0.0;
  double largest = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i])) return std::numeric_limits<double>::infinity();
    error = std::max(error, std::abs(static_cast<double>(got[i]) - expected[i]));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return error / largest;
}

}  // namespace stoker::test
