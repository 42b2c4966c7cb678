#pragma once

// One include for the tests: Catch2 v2 (one header) on older distributions, v3 on newer ones.
// Tests keep to the macros both have (TEST_CASE, SECTION, CHECK, REQUIRE, CHECK_THROWS_AS, INFO,
// CAPTURE, GENERATE).

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
