// Merging equals its definition, whichever of its two ways is taken, and does not slow down with
// the length of a piece.

#include "runtime/text/bpe.h"

#include <chrono>
#include <cstring>
#include <random>
#include <utility>

#include "runtime/text/byte_alphabet.h"
#include "runtime/text/keyed_hash.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

// A hash of eight bytes whose key stands in its source: whoever writes a file can aim at it.
uint64_t PublicHash(const std::string& word) {
  constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15ull;
  uint64_t hash = 8 * kMultiplier;
  uint64_t bytes = 0;
  std::memcpy(&bytes, word.data(), 8);
  for (const uint64_t part : {bytes, uint64_t{0}}) {
    const auto product = static_cast<Uint128>(hash ^ part) * kMultiplier;
    hash = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  return hash ^ hash >> 29;
}

// Seconds to open a vocabulary of the bytes and these words.
double SecondsToOpen(const std::vector<std::string>& words) {
  VocabularySource source;
  source.file = "tokenizer.json";
  source.vocab_field = "model.vocab";
  std::vector<std::string> bytes;
  for (int b = 0; b < 256; ++b) {
    bytes.push_back(AlphabetSpelling(std::string(1, static_cast<char>(b))));
  }
  for (const auto* list : {&std::as_const(bytes), &words}) {
    for (const std::string& text : *list) {
      source.tokens.push_back({.text = text, .id = static_cast<TokenId>(source.tokens.size())});
    }
  }
  const auto start = std::chrono::steady_clock::now();
  const Vocabulary vocabulary(source, 0);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  CHECK(vocabulary.size() == static_cast<int64_t>(source.tokens.size()));
  return elapsed.count();
}

}  // namespace

TEST_CASE("chosen tokens take no longer to open than others") {
  std::mt19937_64 random(17);
  std::vector<std::string> chosen, others;
  // Into a sixty-fourth of a table of 2^16 places, which 20,000 of them take.
  while (chosen.size() < 20000) {
    std::string word(8, '\0');
    for (char& c : word) c = static_cast<char>('a' + random() % 26);
    if (others.size() < 20000) others.push_back(word);
    if ((PublicHash(word) & 0xffff) < 1024) chosen.push_back(word);
  }
  const double ordinary = SecondsToOpen(others);
  const double attacked = SecondsToOpen(chosen);
  CAPTURE(ordinary, attacked);
  CHECK(attacked < 0.1 + 10 * ordinary);
}

TEST_CASE("merging equals its definition on random bytes of every length") {
  const VocabularySource source =
      ParseTokenizerJson(testing::ReadText(testing::DataPath("tokenizer.json")), "tokenizer.json");
  const Vocabulary vocabulary(source, 0);
  const BytePairEncoder encoder(source, vocabulary);
  BytePairEncoder::Scratch scratch;
  const uint64_t seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  // Bytes the vocabulary merges often, so that most pairs have a rule.
  const std::string alphabet = "theodlr  \n\xe4\xb8\xad\xf0\x9f";
  for (int i = 0; i < 4000; ++i) {
    const size_t size = random() % (i % 8 == 0 ? 300 : 48);
    std::string piece;
    while (piece.size() < size) {
      piece += random() % 4 == 0 ? static_cast<char>(random() % 256)
                                 : alphabet[random() % alphabet.size()];
    }
    std::vector<TokenId> ids;
    encoder.Encode(piece, scratch, &ids);
    CAPTURE(piece);
    REQUIRE(ids == encoder.EncodeByDefinition(piece));
  }
}

TEST_CASE("a mebibyte of one character takes well under two seconds") {
  const auto tokenizer = testing::Open(testing::ReferenceJson());
  for (const std::string unit : {"a", "Z", "7", " ", "\n", "\t", "\xe4\xb8\xad", "\xcc\x81",
                                 "\xf0\x9f\x9a\x80", "'", "/", "<", "<end_of_sentence", "aA"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer->Encode(text, SpecialTokens::kParse);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    INFO("unit '" << unit << "' took " << elapsed.count() << " s");
    CHECK(elapsed.count() < 2.0);
    CHECK(tokenizer->Decode(ids) == text);
  }
}

}  // namespace stoker
