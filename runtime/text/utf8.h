#pragma once

// UTF-8 at the edges of the tokenizer: validation, lossy repair and the prefix test that streaming
// needs. Ill-formed input is cut into maximal subparts (Unicode 3.9, table 3-8), each of which is
// replaced by one U+FFFD, as Python's and Rust's lossy decoding do. Pure functions; thread-safe.

#include <cstddef>
#include <string>
#include <string_view>

namespace stoker {

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

// What starts at the front of some bytes.
struct Utf8Step {
  size_t bytes = 0;  // of the character or of the maximal ill-formed subpart; >= 1
  enum Kind { kCharacter, kIllFormed, kUnfinished } kind = kIllFormed;
};

// text must not be empty. kUnfinished: all of `text` (`bytes` of it) begins a character whose rest
// is missing.
Utf8Step NextUtf8(std::string_view text);

// Length of the longest well-formed prefix.
size_t ValidUtf8Prefix(std::string_view text);

// Appends text with ill-formed parts replaced; an unfinished end counts as ill-formed.
void AppendLossyUtf8(std::string_view text, std::string* out);

// The character at the front of well-formed, non-empty text, and its length in bytes.
inline char32_t DecodeUtf8(const char* p, size_t* bytes) {
  const auto at = [p](int i) { return static_cast<unsigned char>(p[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) {
    *bytes = 1;
    return lead;
  }
  if (lead < 0xe0) {
    *bytes = 2;
    return (lead & 0x1f) << 6 | (at(1) & 0x3f);
  }
  if (lead < 0xf0) {
    *bytes = 3;
    return (lead & 0x0f) << 12 | (at(1) & 0x3fu) << 6 | (at(2) & 0x3f);
  }
  *bytes = 4;
  return (lead & 0x07) << 18 | (at(1) & 0x3fu) << 12 | (at(2) & 0x3fu) << 6 | (at(3) & 0x3f);
}

void AppendUtf8(char32_t c, std::string* out);

// White_Space of the Unicode standard: what \s means in the splitting patterns.
bool IsUnicodeSpace(char32_t c);

}  // namespace stoker
