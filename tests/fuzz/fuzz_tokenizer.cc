// Any bytes as tokenizer.json give a FormatError or a tokenizer; any bytes as text then encode to
// known ids and decode again. The input is the file, a zero byte, and the text.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/format_error.h"
#include "numa/check.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/stream_decoder.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocabulary_source.h"
#include "tests/fuzz/seeds.h"

namespace stoker {
namespace {

// Enough for every rule; long texts under a hostile pattern would only measure its step limit.
constexpr size_t kMaxTextBytes = 512;

void EncodeAndDecode(const Tokenizer& tokenizer, std::string_view text) {
  for (const auto special : {SpecialTokens::kParse, SpecialTokens::kPlain}) {
    const auto ids = tokenizer.Encode(text, special);
    StreamDecoder decoder(tokenizer, false);
    std::string streamed;
    for (const TokenId id : ids) {
      STOKER_CHECK(tokenizer.IsKnown(id));
      streamed += decoder.Push(id);
    }
    streamed += decoder.Flush();
    STOKER_CHECK(streamed == tokenizer.Decode(ids));
    STOKER_CHECK(ValidUtf8Prefix(streamed) == streamed.size());
  }
}

void RunOne(std::string_view input) {
  const size_t end = input.find('\0');
  const std::string_view json = input.substr(0, end);
  const std::string_view text =
      end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  std::unique_ptr<const Tokenizer> tokenizer;
  try {
    VocabularySource source = ParseTokenizerJson(json, "fuzz");
    tokenizer = Tokenizer::FromSource(source, 0);
    ApplyTokenizerConfig(text, "fuzz", source);
  } catch (const FormatError& error) {
    STOKER_CHECK(std::string_view(error.what()).starts_with("fuzz: "));
  }
  if (!tokenizer) return;
  try {
    EncodeAndDecode(*tokenizer, text.substr(0, kMaxTextBytes));
  } catch (const std::runtime_error&) {
    // The file's pattern passed its step limit.
  }
}

// The bytes, a few merges, two added tokens; with each kind of pre-tokenizer.
std::vector<std::string> Seeds() {
  nlohmann::ordered_json file = {
      {"version", "1.0"},
      {"added_tokens",
       {{{"id", 260}, {"content", "<end_of_sentence>"}, {"special", true}},
        {{"id", 261}, {"content", "<think>"}, {"special", false}, {"lstrip", true}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"ignore_merges", false}}}};
  auto& vocab = file["model"]["vocab"];
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    vocab[AlphabetSpelling(std::string_view(&byte, 1))] = b;
  }
  for (const char* token : {"aa", "ab", "aaa", "abaa"}) {
    vocab[token] = static_cast<int>(vocab.size());
  }
  file["model"]["merges"] =
      nlohmann::ordered_json::parse(R"([["a", "a"], ["a", "b"], ["aa", "a"], ["ab", "aa"]])");
  const std::string text = std::string(1, '\0') + "abaaaab aa <think> x<end_of_sentence>\n\xff 12";
  std::vector<std::string> seeds = {file.dump() + text};
  file["model"]["merges"] = {"a a", "a b", "aa a", "ab aa"};
  for (const char* pattern : {kO200kSplitPattern, kGpt2SplitPattern, "\\p{L}+|[^a]", "^a.c$"}) {
    nlohmann::ordered_json split = {{"type", "Split"},
                                    {"pattern", {{"Regex", pattern}}},
                                    {"behavior", "Isolated"},
                                    {"invert", false}};
    nlohmann::ordered_json bytes = {{"type", "ByteLevel"}, {"use_regex", false}};
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
    seeds.push_back(file.dump() + text);
  }
  seeds.push_back(file.dump() + std::string(1, '\0') + R"({"eos_token": "<end_of_sentence>"})");
  return seeds;
}

}  // namespace
}  // namespace stoker

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  stoker::test::WriteSeeds(*argc, *argv, stoker::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  stoker::RunOne(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
