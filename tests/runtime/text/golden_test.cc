// The reference models' tokenizers: every stored case, and the same ids from a GGUF file as from
// the tokenizer.json it was converted from.

#include <cstdio>

#include "mmap/gguf_reader.h"
#include "runtime/text/chat_template.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"
#include "tests/support/run_tests.h"

namespace stoker {
namespace {

std::filesystem::path GoldenDirectory() {
  const char* directory = std::getenv("STOKER_GOLDEN_DIR");
  return directory == nullptr ? "" : directory;
}

std::unique_ptr<const Tokenizer> FromGgufFile(const std::filesystem::path& path) {
  const std::string bytes = testing::ReadText(path);
  const GgufFile file = ParseGguf(std::as_bytes(std::span(bytes)), path.string());
  return Tokenizer::FromGguf(file.metadata, 0);
}

}  // namespace

TEST_CASE("every case of every reference tokenizer") {
  for (const char* name : {"tiny", "tiny_ab", "kq"}) {
    INFO(name);
    const auto directory = GoldenDirectory() / name;
    const auto config = testing::ReadJson(directory / "config.json");
    const auto tokenizer =
        Tokenizer::OpenDirectory(directory, config["vocab_size"].get<int64_t>());
    const auto cases = testing::ReadJson(directory / "tokenizer_cases.json");
    REQUIRE(cases.size() >= 6);
    for (const auto& test : cases) {
      const auto text = test["text"].get<std::string>();
      const auto ids = test["ids"].get<std::vector<TokenId>>();
      CHECK(tokenizer->Encode(text, SpecialTokens::kParse) == ids);
      CHECK(tokenizer->Decode(ids) == text);
    }
    // The last 16 rows of the embedding have no token.
    CHECK(tokenizer->never_sampled().size() == 16);
    REQUIRE(tokenizer->end_tokens().size() == 1);
    CHECK(tokenizer->Bytes(tokenizer->end_tokens()[0]) == "<end_of_sentence>");
    CHECK(SupportsChat(*tokenizer));
  }
}

TEST_CASE("a GGUF file gives the tokenizer it was converted from") {
  const auto stored = testing::ReadJson(testing::DataPath("tokenizer_cases.json"));
  for (const auto& [gguf, model] : std::vector<std::pair<std::string, std::string>>{
           {"kq-q8_0.gguf", "kq"}, {"tiny-f32.gguf", "tiny"}}) {
    INFO(gguf);
    const auto from_gguf = FromGgufFile(GoldenDirectory() / gguf);
    const auto from_json = Tokenizer::OpenDirectory(GoldenDirectory() / model,
                                                    from_gguf->vocab_size());
    for (const auto& test : stored["cases"]) {
      const auto text = test["text"].get<std::string>();
      for (const auto special : {SpecialTokens::kParse, SpecialTokens::kPlain}) {
        CHECK(from_gguf->Encode(text, special) == from_json->Encode(text, special));
      }
    }
    for (TokenId id = 0; id < from_gguf->vocab_size(); ++id) {
      CHECK(from_gguf->Bytes(id) == from_json->Bytes(id));
      CHECK(from_gguf->IsSpecial(id) == from_json->IsSpecial(id));
    }
    const auto same = [](std::span<const TokenId> a, std::span<const TokenId> b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end());
    };
    CHECK(same(from_gguf->never_sampled(), from_json->never_sampled()));
    CHECK(same(from_gguf->end_tokens(), from_json->end_tokens()));
  }
}

}  // namespace stoker

int main(int argc, char** argv) {
  if (!std::filesystem::exists(stoker::GoldenDirectory() / "kq" / "tokenizer.json")) {
    std::printf("skipped: no reference models; set STOKER_GOLDEN_DIR\n");
    return stoker::testing::kSkipExitCode;
  }
  return stoker::testing::RunTests(argc, argv);
}
