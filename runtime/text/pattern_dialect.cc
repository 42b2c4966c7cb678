#include "runtime/text/pattern_dialect.h"

#include <cstddef>
#include <stdexcept>

#include "mmap/format_error.h"

namespace stoker {
namespace {

// White_Space: the separators, and the controls that are not Z.
constexpr std::string_view kSpaceClass = R"(\p{Z}\x{9}-\x{d}\x{85})";

bool IsAsciiLetterOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

[[noreturn]] void Refuse(std::string_view construct, std::string_view reason) {
  throw std::invalid_argument("'" + Printable(construct) + "' " + std::string(reason));
}

// pattern[i] is '{': the length of a counted repeat such as {1,3}, or 0.
size_t RepeatLength(std::string_view pattern, size_t i) {
  const size_t end = pattern.find_first_not_of("0123456789,", i + 1);
  return end != std::string_view::npos && pattern[end] == '}' && end > i + 1 ? end + 1 - i : 0;
}

}  // namespace

std::string TranslatePattern(std::string_view pattern) {
  constexpr size_t kMaxPatternBytes = 4096;
  if (pattern.empty()) throw std::invalid_argument("is empty");
  if (pattern.size() > kMaxPatternBytes) {
    throw std::invalid_argument("has " + std::to_string(pattern.size()) +
                                " bytes, the limit is " + std::to_string(kMaxPatternBytes));
  }
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      if (i + 1 == pattern.size()) Refuse("\\", "ends the pattern");
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += in_class ? std::string(kSpaceClass) : "[" + std::string(kSpaceClass) + "]";
      } else if (escaped == 'S' && !in_class) {
        out += "[^" + std::string(kSpaceClass) + "]";
      } else if (std::string_view("pPdDrntfx").find(escaped) != std::string_view::npos ||
                 !IsAsciiLetterOrDigit(escaped)) {
        out += c;
        out += escaped;
      } else {
        Refuse(pattern.substr(i - 1, 2), "is understood differently by regex libraries");
      }
      continue;
    }
    if (in_class) {
      if (c == '[') Refuse("[...[", "nested classes are not supported");
      if (c == '&' && pattern.substr(i, 2) == "&&") Refuse("&&", "intersections are not supported");
      if (c == ']') in_class = false;
      out += c;
      continue;
    }
    if (c == '[') {
      in_class = true;
      out += c;
      // A bracket right after the opening is a member in PCRE2 and ends the class elsewhere.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') Refuse("[]", "is an empty class");
      continue;
    }
    if (c == '(' && i + 1 < pattern.size() && pattern[i + 1] == '*') {
      Refuse("(*", "control verbs are not supported");
    }
    if (c == '{') {
      const size_t length = RepeatLength(pattern, i);
      if (length > 0 && i + length < pattern.size() && pattern[i + length] == '+') {
        Refuse(pattern.substr(i, length + 1), "is understood differently by regex libraries");
      }
    }
    out += c;
  }
  if (in_class) Refuse("[", "is not closed");
  return out;
}

}  // namespace stoker
