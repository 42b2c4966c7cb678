#include "runtime/text/o200k_scanner.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <string>

#include "numa/check.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

const char kO200kSplitPattern[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

// Sets of general categories the pattern speaks of, as bits.
enum : uint8_t {
  kUpper = 1,     // Lu Lt: may precede the lower-case part of a word, never end it
  kLower = 2,     // Ll
  kEither = 4,    // Lm Lo: both
  kMark = 8,      // M: both, and not a letter
  kNumber = 16,   // N
  kSpace = 32,    // \s, CR and LF included
  kNewline = 64,  // CR LF
};
constexpr uint8_t kLetter = kUpper | kLower | kEither;
constexpr uint8_t kWordHead = kUpper | kEither | kMark;  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
constexpr uint8_t kWordTail = kLower | kEither | kMark;  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]

// Planes 0 to 3 as far as they are assigned; beyond, only the variation selectors of plane 14 have
// a class (kMark), and everything else has none.
constexpr char32_t kTableEnd = 0x34000;
constexpr char32_t kSelectorsBegin = 0xe0100;
constexpr char32_t kSelectorsEnd = 0xe01f0;

struct ClassTable {
  std::vector<uint8_t> classes = std::vector<uint8_t>(kTableEnd, 0);

  ClassTable() {
    std::string all;
    for (char32_t c = 0; c < kTableEnd; ++c) {
      if (c < 0xd800 || c > 0xdfff) AppendUtf8(c, &all);
    }
    Mark(all, "[\\p{Lu}\\p{Lt}]+", kUpper);
    Mark(all, "\\p{Ll}+", kLower);
    Mark(all, "[\\p{Lm}\\p{Lo}]+", kEither);
    Mark(all, "\\p{M}+", kMark);
    Mark(all, "\\p{N}+", kNumber);
    for (char32_t c = 0; c < kTableEnd; ++c) {
      if (IsUnicodeSpace(c)) classes[c] |= kSpace;
    }
    classes['\r'] |= kNewline;
    classes['\n'] |= kNewline;
  }

  // Sets `bit` for the characters of `all`, which is every character in order, that match.
  void Mark(const std::string& all, const char* pattern, uint8_t bit) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr),
        pcre2_code_free);
    STOKER_CHECK(code != nullptr);
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
    const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
        pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
    STOKER_CHECK(match != nullptr);
    const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(match.get());
    for (size_t from = 0; from < all.size(); from = ovector[1]) {
      const int result =
          pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(all.data()), all.size(), from,
                      PCRE2_NO_UTF_CHECK, match.get(), nullptr);
      if (result == PCRE2_ERROR_NOMATCH) break;
      STOKER_CHECK_MSG(result > 0, pattern);
      for (size_t i = ovector[0]; i < ovector[1];) {
        size_t bytes = 0;
        classes[DecodeUtf8(all.data() + i, &bytes)] |= bit;
        i += bytes;
      }
    }
  }
};

// Walks over one text. Positions are byte offsets of whole characters.
class Cursor {
 public:
  Cursor(std::string_view text, const uint8_t* classes) : text_(text), classes_(classes) {}

  size_t size() const { return text_.size(); }
  char byte(size_t i) const { return text_[i]; }

  // The class of the character at i < size(), and where the next one begins.
  uint8_t Class(size_t i, size_t* next) const {
    const auto lead = static_cast<uint8_t>(text_[i]);
    if (lead < 0x80) {
      *next = i + 1;
      return classes_[lead];
    }
    size_t bytes = 0;
    const char32_t c = DecodeUtf8(text_.data() + i, &bytes);
    *next = i + bytes;
    if (c < kTableEnd) return classes_[c];
    return c >= kSelectorsBegin && c < kSelectorsEnd ? kMark : 0;
  }

  // The end of the run of characters with a class in `set`.
  size_t Run(size_t i, uint8_t set) const {
    size_t next = i;
    while (i < size() && (Class(i, &next) & set) != 0) i = next;
    return i;
  }

  // (?i:'s|'t|'re|'ve|'m|'ll|'d)? at i: where it ends.
  size_t Contraction(size_t i) const {
    if (i + 1 >= size() || text_[i] != '\'') return i;
    const auto lower = [this](size_t at) {
      const char c = at < size() ? text_[at] : '\0';
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    };
    switch (lower(i + 1)) {
      case 's': case 't': case 'm': case 'd':
        return i + 2;
      case 'r': case 'v':
        return lower(i + 2) == 'e' ? i + 3 : i;
      case 'l':
        return lower(i + 2) == 'l' ? i + 3 : i;
      default:
        // The long s folds to s.
        return text_.substr(i + 1, 2) == "\xc5\xbf" ? i + 3 : i;
    }
  }

  // [head]*[tail]+ at i, where the greedy head gives back what the tail needs: 0 when it fails.
  size_t LowerWord(size_t i) const {
    // The tail can only begin with a character that ends the head's run or one inside the run that
    // is in both sets, and the last such is where backtracking stops first.
    size_t next = i;
    size_t tail_end = 0;
    while (i < size()) {
      const uint8_t c = Class(i, &next);
      if ((c & kWordHead) == 0) break;
      i = next;
      if ((c & kWordTail) != 0) tail_end = i;
    }
    const size_t lower_end = Run(i, kWordTail);
    return lower_end > i ? lower_end : tail_end;
  }

  // [head]+[tail]* at i, tried only where LowerWord failed, so that no tail follows the head.
  size_t UpperWord(size_t i) const {
    const size_t end = Run(i, kWordHead);
    return end > i ? end : 0;
  }

  size_t PieceEnd(size_t begin) const {
    size_t second = begin;
    const uint8_t first = Class(begin, &second);
    // 1. and 2. Words, with one leading character that is no letter, digit or line end. A mark can
    // be that character or belong to the word.
    const bool prefix = (first & (kLetter | kNumber | kNewline)) == 0;
    const bool in_word = (first & (kLetter | kMark)) != 0;
    size_t end = 0;
    if (prefix) end = LowerWord(second);
    if (end == 0 && in_word) end = LowerWord(begin);
    if (end == 0 && prefix) end = UpperWord(second);
    if (end == 0 && in_word) end = UpperWord(begin);
    if (end != 0) return Contraction(end);
    // 3. Up to three digits.
    if ((first & kNumber) != 0) {
      end = second;
      for (int n = 1; n < 3 && end < size(); ++n) {
        size_t next = end;
        if ((Class(end, &next) & kNumber) == 0) break;
        end = next;
      }
      return end;
    }
    // 4. An optional space, what is no space, letter or digit, then line ends and slashes.
    const auto other = [this](size_t i) {
      size_t next = i;
      while (i < size() && (Class(i, &next) & (kSpace | kLetter | kNumber)) == 0) i = next;
      return i;
    };
    const size_t symbols = byte(begin) == ' ' ? second : begin;
    end = other(symbols);
    if (end > symbols) {
      while (end < size() && (byte(end) == '\r' || byte(end) == '\n' || byte(end) == '/')) ++end;
      return end;
    }
    // 5. White space up to its last line end; 6. all of it at the end of the text, else all but its
    // last character; 7. one white space character.
    size_t last = begin;  // begin of the run's last character
    size_t newline_end = 0;
    end = begin;
    while (end < size()) {
      size_t next = end;
      const uint8_t c = Class(end, &next);
      if ((c & kSpace) == 0) break;
      last = end;
      end = next;
      if ((c & kNewline) != 0) newline_end = end;
    }
    if (newline_end != 0) return newline_end;
    return end == size() || last == begin ? end : last;
  }

 private:
  std::string_view text_;
  const uint8_t* classes_;
};

}  // namespace

bool O200kScanner::Matches(std::string_view pattern) {
  return pattern == kO200kSplitPattern;
}

O200kScanner::O200kScanner() {
  static const ClassTable table;
  classes_ = table.classes.data();
}

size_t O200kScanner::Split(std::string_view text, size_t from, size_t base, size_t max_pieces,
                           std::vector<TextRange>* pieces) const {
  const Cursor cursor(text, classes_);
  for (; from < text.size() && max_pieces > 0; --max_pieces) {
    const size_t end = cursor.PieceEnd(from);
    pieces->push_back({base + from, base + end});
    from = end;
  }
  return from;
}

}  // namespace stoker
