// The hand-written scanner cuts exactly where PCRE2 does; patterns that mean something else
// elsewhere, match nothing or explode are refused.

#include "runtime/text/pre_tokenizer.h"

#include <random>

#include "mmap/format_error.h"
#include "runtime/text/pattern_dialect.h"
#include "runtime/text/utf8.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

VocabularySource SourceWith(const std::string& pattern) {
  VocabularySource source;
  source.file = "tokenizer.json";
  source.split_field = "pre_tokenizer";
  source.stages.push_back({.pattern = pattern});
  return source;
}

std::vector<std::string> Pieces(const PreTokenizer& splitter, std::string_view text) {
  PreTokenizer::Scratch scratch;
  std::vector<TextRange> ranges;
  std::vector<std::string> pieces;
  for (size_t from = 0; from < text.size();) {
    from = splitter.Split(text, from, scratch, &ranges);
    for (const TextRange& range : ranges) {
      pieces.emplace_back(text.substr(range.begin, range.end - range.begin));
    }
  }
  return pieces;
}

std::string RandomText(std::mt19937_64& random) {
  // Few characters of each class, so that their combinations are met; now and then any character.
  static const std::vector<char32_t> kCommon = {
      U'a', U'b', U's', U't', U'r', U'e', U'v', U'm', U'l', U'd', U'S', U'L', U'E', U'A', U'Z',
      U'1', U'2', U' ', U' ', U' ', U'\n', U'\r', U'\t', U'/', U'\'', U'\'', U'.', U'!', U'(',
      0xe9, 0xc9, 0x301, 0x2b0, 0x4e2d, 0x1c5, 0x17f, 0x661, 0x2167, 0xa0, 0x3000, 0x85, 0x180e,
      0x1f680, 0x200d, 0xfe0f, 0xe0101, 0x10ffff, 0x33fff, 0x212a};
  std::string text;
  for (size_t n = random() % 40; n > 0; --n) {
    char32_t c = kCommon[random() % kCommon.size()];
    if (random() % 8 == 0) c = static_cast<char32_t>(random() % 0x110000);
    if (c >= 0xd800 && c <= 0xdfff) c = U'x';
    const size_t repeat = random() % 12 == 0 ? random() % 9 : 1;
    for (size_t i = 0; i < repeat; ++i) AppendUtf8(c, &text);
  }
  return text;
}

std::string Refusal(const std::string& pattern) {
  try {
    const PreTokenizer splitter(SourceWith(pattern));
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the scanner and PCRE2 cut random text alike") {
  const VocabularySource source = SourceWith(kO200kSplitPattern);
  const PreTokenizer scanner(source);
  const PreTokenizer pcre(source, false);
  REQUIRE(scanner.engine() == "o200k scanner");
  REQUIRE(pcre.engine() == "PCRE2");
  const uint64_t seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = RandomText(random);
    const auto expected = Pieces(pcre, text);
    const auto pieces = Pieces(scanner, text);
    CAPTURE(text, pieces, expected);
    REQUIRE((pieces == expected));
  }
}

TEST_CASE("the scanner and PCRE2 agree on every character, alone and within words") {
  const VocabularySource source = SourceWith(kO200kSplitPattern);
  const PreTokenizer scanner(source);
  const PreTokenizer pcre(source, false);
  for (const std::string_view around : {"", "a", "A", "1", " ", "\n"}) {
    std::string text;
    for (char32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xd800 && c <= 0xdfff) continue;
      if (c >= 0x34000 && c < 0xe0000 && c % 97 != 0) continue;  // unassigned: a sample
      if (c > 0xe1000 && c % 97 != 0) continue;                  // private use: a sample
      text += around;
      AppendUtf8(c, &text);
      text += around;
    }
    CHECK((Pieces(scanner, text) == Pieces(pcre, text)));
  }
}

TEST_CASE("pieces of long texts come in batches without a seam") {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "word " + std::to_string(i) + (i % 7 == 0 ? "\n\n" : " ");
  const VocabularySource source = SourceWith(kO200kSplitPattern);
  for (const bool use_scanner : {true, false}) {
    const PreTokenizer splitter(source, use_scanner);
    const auto pieces = Pieces(splitter, text);
    CHECK(pieces.size() > 40000);
    std::string joined;
    for (const std::string& piece : pieces) joined += piece;
    CHECK((joined == text));
  }
}

TEST_CASE("white space means White_Space, whatever the library thinks") {
  CHECK(Pieces(PreTokenizer(SourceWith(R"(\s+)")), "a\xe1\xa0\x8e" "b").size() == 1);  // U+180E
  CHECK(Pieces(PreTokenizer(SourceWith(R"([^\s]+)")), "a\xe1\xa0\x8e" "b").size() == 1);
  CHECK(Pieces(PreTokenizer(SourceWith(R"(\S+)")), "a\xe2\x80\x83" "b").size() == 3);  // U+2003
}

TEST_CASE("patterns are refused that would be dangerous or mean something else") {
  const auto check = [](const std::string& pattern, const std::string& reason) {
    const std::string message = Refusal(pattern);
    CAPTURE(pattern, message);
    CHECK(message.find("tokenizer.json: pre_tokenizer: pattern '") == 0);
    CHECK(message.find(reason) != std::string::npos);
  };
  check("(a+)+$", "steps on 64 times 'a'");
  check("(a|aa)+$", "steps on 64 times 'a'");
  check(R"((\s*)*\x01\x01)", "steps on 64 times ' '");
  check("(", "closing parenthesis");
  check("[a", "is not closed");
  check("a*", "can match nothing");
  check(R"(\w+)", "understood differently");
  check(R"(\bword)", "understood differently");
  check(R"(a\C)", "understood differently");
  check("[a-z&&[^b]]", "not supported");
  check("[[:alpha:]]", "nested classes");
  check("[]a]", "empty class");
  check("(*UTF8)a", "control verbs");
  check("a{1,2}+", "understood differently");
  check("a{,3}", "'{,3}' is understood differently");
  check("a{1, 3}", "understood differently");
  check("a{3}?", "understood differently");
  check("(?m:.)+", "'(?m:' is understood differently");
  check("x(?i)y|z", "'(?i)' is understood differently");
  check("(?<name>a)", "understood differently");
  check("(?#comment)a", "understood differently");
  check(R"(\pL)", "understood differently");
  check(R"(\xe9)", "understood differently");
  check("\\", "ends the pattern");
  check("((((a{100}){100}){100}){100})", "");
  check(std::string(5000, 'a'), "the limit is 4096");
  check(R"(\p{Nonsense})", "");
  for (const char* pattern :
       {R"([^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}|\s++$|\s+(?!\S)|\s)", kGpt2SplitPattern,
        R"((?i:ab)|(?:c{2}){1,}|(?>d+)|(?=e)e|(?!g)f|(?<=g)h|(?<!i)j|{|[{}]+|\x41|\x{4e2d}|\{)"}) {
    CHECK(Refusal(pattern) == "");
  }
}

TEST_CASE("patterns whose steps grow faster than a text are refused when they are read") {
  const auto check = [](const std::string& pattern, const std::string& reason) {
    const std::string message = Refusal(pattern);
    CAPTURE(pattern, message);
    CHECK(message.find("needs more than ") != std::string::npos);
    CHECK(message.ends_with(reason));
  };
  // Each match takes steps in proportion, but for one character only.
  check(R"(\p{L}+!|\p{L}|[^\p{L}]+)", "steps on 1024 times 'a'");
  check(R"(\p{L}++!|\p{L}|[^\p{L}]+)", "steps on 1024 times 'a'");
  check(R"((?>\p{L}+)!|\p{L}|[^\p{L}]+)", "steps on 1024 times 'a'");
  check(R"(\p{L}+!)", "steps on 1024 times 'a'");
  check(R"(\p{N}+\p{N}+!|.)", "steps on 1024 times '1'");
  // On characters that only the pattern names.
  check("(?:q+)+!|.", "steps on 64 times 'q'");
  check("q++!|.", "steps on 1024 times 'q'");
  // Many alternatives cost much, and always the same.
  std::string many;
  for (int i = 0; i < 50; ++i) many += "word" + std::to_string(i) + "|";
  CHECK(Refusal(many + ".") == "");
}

TEST_CASE("a pattern that runs away on some text is stopped") {
  // Harmless on the characters tried at load.
  const PreTokenizer splitter(SourceWith(R"((?:\p{Greek}+)+!|.)"));
  std::string text;
  for (int i = 0; i < 64; ++i) text += "\xce\xb1";  // alpha
  PreTokenizer::Scratch scratch;
  std::vector<TextRange> pieces;
  CHECK_THROWS_AS(splitter.Split(text, 0, scratch, &pieces), std::runtime_error);
}

}  // namespace stoker
