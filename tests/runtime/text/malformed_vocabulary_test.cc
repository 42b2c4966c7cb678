// Vocabularies beyond their limits are refused before they take memory, and added tokens that would
// cut characters are refused whatever their file.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mmap/format_error.h"
#include "mmap/gguf_reader.h"
#include "runtime/text/byte_alphabet.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"
#include "tests/support/child_process.h"
#include "tests/support/gguf_builder.h"

namespace stoker {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4;

// A GGUF file with the 256 bytes as tokens, and `more` of one type.
test::RawGguf VocabularyWith(const std::vector<std::string>& more, int32_t type) {
  std::string tokens, types;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    tokens += test::LeString(AlphabetSpelling(std::string_view(&byte, 1)));
    types += test::Le<int32_t>(kNormal);
  }
  for (const std::string& text : more) {
    tokens += test::LeString(text);
    types += test::Le<int32_t>(type);
  }
  test::RawGguf file;
  file.SetString("tokenizer.ggml.model", "gpt2");
  file.SetString("tokenizer.ggml.pre", "gpt-2");
  file.SetArray("tokenizer.ggml.tokens", 8, 256 + more.size(), tokens);
  file.SetArray("tokenizer.ggml.token_type", 5, 256 + more.size(), types);
  file.SetArray("tokenizer.ggml.merges", 8, 0, "");
  return file;
}

// What reading the tokenizer says; "" when it is read.
std::string Refusal(const GgufMetadata& metadata) {
  try {
    Tokenizer::FromGguf(metadata, 0);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

std::string Refusal(const test::RawGguf& file) {
  const std::string bytes = file.Build();
  return Refusal(ParseGguf(std::as_bytes(std::span(bytes)), "m.gguf").metadata);
}

}  // namespace

TEST_CASE("lists of a GGUF vocabulary have a number of entries that is looked at first") {
  test::RawGguf file = VocabularyWith({"<think>"}, kUserDefined);
  REQUIRE(Refusal(file) == "");
  SECTION("tokens to suppress: one for each token at most") {
    file.SetArray("tokenizer.ggml.suppress_tokens", 0, 257, std::string(257, '\0'));
    CHECK(Refusal(file) == "");
    file.SetArray("tokenizer.ggml.suppress_tokens", 0, 258, std::string(258, '\0'));
    CHECK(Refusal(file) ==
          "m.gguf: tokenizer.ggml.suppress_tokens: has 258 entries, the limit is 257");
  }
  SECTION("merges") {
    const size_t n = kMaxMerges + 1;
    file.SetArray("tokenizer.ggml.merges", 8, n, std::string(n * 8, '\0'));
    CHECK(Refusal(file) ==
          "m.gguf: tokenizer.ggml.merges: has 1048577 entries, the limit is 1048576");
  }
  SECTION("tokens") {
    const size_t n = size_t{kMaxTokenId} + 2;
    file.SetArray("tokenizer.ggml.tokens", 8, n, std::string(n * 8, '\0'));
    CHECK(Refusal(file) ==
          "m.gguf: tokenizer.ggml.tokens: has 524289 entries, the limit is 524288");
  }
}

TEST_CASE("lists of a GGUF vocabulary have a number of bytes that is looked at first") {
  const std::string bytes = VocabularyWith({}, kNormal).Build();
  const GgufFile file = ParseGguf(std::as_bytes(std::span(bytes)), "m.gguf");
  // Never read, and so no memory.
  constexpr size_t kBytes = kMaxTokenizerFileBytes + 1;
  const std::unique_ptr<std::byte[]> text(new std::byte[kBytes]);
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    std::vector<GgufEntry> entries = file.metadata.entries();
    for (GgufEntry& entry : entries) {
      if (entry.key != key) continue;
      entry.count = 1;
      entry.data = {text.get(), kBytes};
    }
    CHECK(Refusal(GgufMetadata("m.gguf", std::move(entries))) ==
          "m.gguf: " + std::string(key) + ": has 134217729 bytes, the limit is 134217728");
  }
}

TEST_CASE("the spellings of added tokens have a limit in all, for what finds them takes more") {
  std::vector<std::string> added;
  for (int i = 0; i < 20000; ++i) {
    std::string text = "<" + std::to_string(i);
    text.resize(200, 'x');
    added.push_back(text);
  }
  const test::RawGguf file = VocabularyWith(added, kUserDefined);
  const test::ChildResult result = test::RunInChild([&] { return Refusal(file); });
  CHECK(result.answer ==
        "m.gguf: tokenizer.ggml.tokens: the added tokens up to 5498 have more than 1048576 bytes, "
        "which is the limit");
#if !defined(__SANITIZE_THREAD__)  // whose shadow takes several times the memory
  CHECK(result.peak_rise_bytes <= (uint64_t{64} << 20) + 8 * file.Build().size());
#endif
  added.resize(5242);
  CHECK(Refusal(VocabularyWith(added, kControl)) == "");
}

TEST_CASE("added tokens are whole characters") {
  for (const int32_t type : {kControl, kUserDefined}) {
    CHECK(Refusal(VocabularyWith({"<\xe4\xb8\xad>"}, type)) == "");
    CHECK(Refusal(VocabularyWith({"<\xe4\xb8>"}, type)) ==
          "m.gguf: tokenizer.ggml.tokens: added token 256 ('<\\xe4\\xb8>') is not UTF-8");
  }
  // A normal one that no text is written with can be decoded to, and that is all.
  CHECK(Refusal(VocabularyWith({"<\xe4\xb8>"}, kNormal)) == "");
}

}  // namespace stoker
