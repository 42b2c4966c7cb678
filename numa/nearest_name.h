#pragma once

// "Did you mean": the name closest to a mistyped one. Pure functions; thread-safe.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace stoker {

// Insertions, deletions, substitutions and swaps of neighbours that turn a into b (optimal string
// alignment distance).
size_t EditDistance(std::string_view a, std::string_view b);

// The candidate with the smallest distance, the first of equals; empty when none is near enough to
// be a plausible typing error: one, or one in every three letters.
std::string NearestName(std::string_view name, std::span<const std::string> candidates);

}  // namespace stoker
