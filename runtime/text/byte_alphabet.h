#pragma once

// GPT-2's byte alphabet: each byte is written as one printable character, so that token spellings
// are plain text (space is U+0120). Pure functions; thread-safe.

#include <string>
#include <string_view>

namespace stoker {

// Appends the bytes that `text` spells. False, with `bytes` unchanged, when a character is not of
// the alphabet or the text is not UTF-8.
bool AppendAlphabetBytes(std::string_view text, std::string* bytes);

// The spelling of `bytes`, for messages and tests.
std::string AlphabetSpelling(std::string_view bytes);

}  // namespace stoker
