// Merging equals its definition, whichever of its two ways is taken, and does not slow down with
// the length of a piece.

#include "runtime/text/bpe.h"

#include <chrono>
#include <random>

#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"

namespace stoker {

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
