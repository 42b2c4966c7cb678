// Streaming emits whole characters only, and in all what decoding at once gives.

#include "runtime/text/stream_decoder.h"

#include <random>

#include "runtime/text/utf8.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

// The tokens of single bytes, which tear every character apart.
std::vector<TokenId> ByteTokens(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<TokenId> ids;
  for (const char byte : bytes) ids.push_back(*tokenizer.Find(std::string_view(&byte, 1)));
  return ids;
}

}  // namespace

TEST_CASE("characters appear when their last byte does") {
  const auto tokenizer = testing::Open(testing::ReferenceJson());
  StreamDecoder decoder(*tokenizer);
  const auto ids = ByteTokens(*tokenizer, "a\xf0\x9f\x9a\x80!");
  std::vector<std::string> steps;
  for (const TokenId id : ids) steps.emplace_back(decoder.Push(id));
  CHECK(steps == std::vector<std::string>{"a", "", "", "", "\xf0\x9f\x9a\x80", "!"});
  CHECK(decoder.Flush().empty());
}

TEST_CASE("what cannot become a character is replaced at once, an unfinished end on flush") {
  const auto tokenizer = testing::Open(testing::ReferenceJson());
  StreamDecoder decoder(*tokenizer);
  const auto ids = ByteTokens(*tokenizer, "\xe4\xb8" "x\xc3");
  CHECK(decoder.Push(ids[0]).empty());
  CHECK(decoder.Push(ids[1]).empty());
  CHECK(decoder.pending_bytes() == 2);
  CHECK(decoder.Push(ids[2]) == "\xef\xbf\xbdx");
  CHECK(decoder.Push(ids[3]).empty());
  CHECK(decoder.Flush() == "\xef\xbf\xbd");
  CHECK(decoder.Flush().empty());
}

TEST_CASE("special tokens are hidden on request; <think> is text") {
  const auto tokenizer = testing::Open(testing::ReferenceJson());
  const TokenId end = *tokenizer->Find("<end_of_sentence>");
  const TokenId think = *tokenizer->Find("<think>");
  StreamDecoder hiding(*tokenizer);
  StreamDecoder showing(*tokenizer, false);
  CHECK(hiding.Push(end).empty());
  CHECK(showing.Push(end) == "<end_of_sentence>");
  CHECK(hiding.Push(think) == "<think>");
  CHECK(hiding.Push(-1).empty());
  CHECK(hiding.Push(1 << 30).empty());
}

TEST_CASE("streamed and whole decoding agree on random tokens") {
  const auto tokenizer = testing::Open(testing::ReferenceJson());
  const uint64_t seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 3000; ++i) {
    std::vector<TokenId> ids(random() % 30);
    // Mostly byte tokens, so that ill-formed sequences of every kind come up.
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % (random() % 3 == 0 ? 610 : 256));
    StreamDecoder decoder(*tokenizer, false);
    std::string streamed;
    for (const TokenId id : ids) {
      const std::string text(decoder.Push(id));
      REQUIRE(ValidUtf8Prefix(text) == text.size());
      REQUIRE(decoder.pending_bytes() <= 3);
      streamed += text;
    }
    streamed += decoder.Flush();
    REQUIRE(streamed == tokenizer->Decode(ids));
  }
}

}  // namespace stoker
