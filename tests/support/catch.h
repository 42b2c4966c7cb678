#pragma once

// One include for the tests: Catch2 v2 (one header) on older distributions, v3 on newer ones.
// Tests keep to the macros both have (TEST_CASE, SECTION, CHECK, REQUIRE, CHECK_THROWS_AS,
// CHECK_THROWS_WITH, CHECK_THAT, INFO, CAPTURE, GENERATE), to Approx, Catch::Matchers::StartsWith
// and EndsWith, and to HasText.

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace stoker {
#if __has_include(<catch2/catch_all.hpp>)
using Catch::Approx;
#else
using Catch::Detail::Approx;
#endif
}  // namespace stoker

namespace stoker::test {

// Matches texts that contain `text`; combined by &&.
inline auto HasText(const std::string& text) {
#if __has_include(<catch2/catch_all.hpp>)
  return Catch::Matchers::ContainsSubstring(text);
#else
  return Catch::Matchers::Contains(text);
#endif
}

}  // namespace stoker::test
