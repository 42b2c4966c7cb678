#include "runtime/text/pattern_dialect.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <utility>

#include "mmap/format_error.h"
#include "runtime/text/utf8.h"

namespace stoker {
namespace {

// White_Space: the separators, and the controls that are not Z.
constexpr std::string_view kSpaceClass = R"(\p{Z}\x{9}-\x{d}\x{85})";

// The groups that mean the same everywhere. Options, for one, do not: (?m) is two things.
constexpr std::string_view kGroups[] = {"(?:", "(?i:", "(?>", "(?=", "(?!", "(?<=", "(?<!"};

constexpr std::string_view kDifferent = "is understood differently by regex libraries";

bool IsAsciiLetterOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool IsHexDigit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

[[noreturn]] void Refuse(std::string_view construct, std::string_view reason) {
  throw std::invalid_argument("'" + Printable(construct) + "' " + std::string(reason));
}

// The length of the escape at the front of `text`, a backslash and more; 0 when it is not passed
// on.
size_t EscapeLength(std::string_view text) {
  const char escaped = text[1];
  if (escaped == 'p' || escaped == 'P' || escaped == 'x') {
    if (text.substr(2, 1) == "{") {
      const size_t end = text.find('}');
      return end == std::string_view::npos ? 0 : end + 1;
    }
    // Without braces: a property for PCRE2 only, and from 80 up a byte of UTF-8 for others.
    const bool is_ascii = escaped == 'x' && text.size() >= 4 && text[2] >= '0' && text[2] <= '7' &&
                          IsHexDigit(text[3]);
    return is_ascii ? 4 : 0;
  }
  if (std::string_view("dDrntf").find(escaped) != std::string_view::npos) return 2;
  return IsAsciiLetterOrDigit(escaped) ? 0 : 1 + NextUtf8(text.substr(1)).bytes;
}

// Takes a pattern apart, one element at a time.
class Translator {
 public:
  Translator(std::string_view pattern, bool counted) : rest_(pattern), counted_(counted) {}

  std::string Translate() {
    while (!rest_.empty()) {
      const char c = rest_[0];
      if (c == '(') {
        PassGroup();
      } else if (std::string_view("|)^$*+?").find(c) != std::string_view::npos) {
        Pass(1);
      } else if (c != '{' || !PassRepeat()) {
        PassCharacter();
      }
    }
    return std::move(out_);
  }

 private:
  void Pass(size_t bytes) {
    out_ += rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
  }

  // The opening of a group.
  void PassGroup() {
    if (rest_.starts_with("(*")) Refuse("(*", "control verbs are not supported");
    if (!rest_.starts_with("(?")) return Pass(1);
    for (const std::string_view group : kGroups) {
      if (rest_.starts_with(group)) return Pass(group.size());
    }
    Refuse(rest_.substr(0, 4), kDifferent);
  }

  // A counted repeat such as {1,3}; false when the brace is an ordinary character.
  bool PassRepeat() {
    const size_t end = rest_.find_first_not_of("0123456789, \t", 1);
    if (end == std::string_view::npos || rest_[end] != '}') return false;
    const std::string_view counts = rest_.substr(1, end - 1);
    const bool is_plain = !counts.empty() && counts[0] != ',' &&
                          counts.find_first_of(" \t") == std::string_view::npos &&
                          std::count(counts.begin(), counts.end(), ',') <= 1;
    // {1,2}+ is possessive or a repeat of the repeat, and {2}? is lazy or optional.
    const std::string_view next = rest_.substr(end + 1, 1);
    const bool is_exact = counts.find(',') == std::string_view::npos;
    if (!is_plain || next == "+" || (next == "?" && is_exact)) {
      Refuse(rest_.substr(0, end + 1 + next.size()), kDifferent);
    }
    Pass(end + 1);
    return true;
  }

  // What matches one character: a class, an escape, the character itself.
  void PassCharacter() {
    // In a group, so that a repeat that follows calls out each time around.
    if (counted_) out_ += "(?:(?C)";
    if (rest_[0] == '[') {
      PassClass();
    } else if (rest_[0] == '\\') {
      PassEscape(false);
    } else {
      Pass(NextUtf8(rest_).bytes);
    }
    if (counted_) out_ += ")";
  }

  void PassClass() {
    Pass(rest_.starts_with("[^") ? 2 : 1);
    // A bracket right after the opening is a member in PCRE2 and ends the class elsewhere.
    if (rest_.starts_with("]")) Refuse("[]", "is an empty class");
    while (!rest_.starts_with("]")) {
      if (rest_.empty()) Refuse("[", "is not closed");
      if (rest_[0] == '[') Refuse("[...[", "nested classes are not supported");
      if (rest_.starts_with("&&")) Refuse("&&", "intersections are not supported");
      if (rest_[0] == '\\') {
        PassEscape(true);
      } else {
        Pass(1);
      }
    }
    Pass(1);
  }

  void PassEscape(bool in_class) {
    if (rest_.size() == 1) Refuse("\\", "ends the pattern");
    const char escaped = rest_[1];
    if (escaped == 's' || (escaped == 'S' && !in_class)) {
      if (!in_class) out_ += escaped == 's' ? "[" : "[^";
      out_ += kSpaceClass;
      if (!in_class) out_ += "]";
      rest_.remove_prefix(2);
      return;
    }
    const size_t length = EscapeLength(rest_);
    if (length == 0) Refuse(rest_.substr(0, 2), kDifferent);
    Pass(length);
  }

  std::string_view rest_;
  bool counted_;
  std::string out_;
};

}  // namespace

std::string TranslatePattern(std::string_view pattern, bool counted) {
  constexpr size_t kMaxPatternBytes = 4096;
  if (pattern.empty()) throw std::invalid_argument("is empty");
  if (pattern.size() > kMaxPatternBytes) {
    throw std::invalid_argument("has " + std::to_string(pattern.size()) +
                                " bytes, the limit is " + std::to_string(kMaxPatternBytes));
  }
  return Translator(pattern, counted).Translate();
}

}  // namespace stoker
