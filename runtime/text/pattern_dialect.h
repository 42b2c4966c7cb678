#pragma once

// Translates a splitting pattern, written for the Oniguruma-like dialect of Hugging Face
// tokenizers, into PCRE2's. It passes on what both understand alike, spells out \s (PCRE2's still
// has U+180E, which left White_Space in Unicode 6.3) and refuses what they read differently, so
// that no model is ever split by a pattern that means something else here. Pure; thread-safe.

#include <string>
#include <string_view>

namespace stoker {

// Throws std::invalid_argument with the reason. counted: the same pattern, calling out before each
// character it tries, possessive repeats included, so that the steps of a match can be counted.
std::string TranslatePattern(std::string_view pattern, bool counted = false);

}  // namespace stoker
