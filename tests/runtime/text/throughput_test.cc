// How fast ordinary text becomes ids on one thread, and what a vocabulary of M1's size costs to
// load. Timed in processor time of this thread, best of several rounds; thresholds hold in
// optimised builds without sanitizers only.

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <set>

#include "runtime/text/byte_alphabet.h"
#include "runtime/text/pre_tokenizer.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define STOKER_TIMES_COUNT 0
#else
#define STOKER_TIMES_COUNT 1
#endif

namespace stoker {
namespace {

double ThreadSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// English and code: this project's own documents and sources.
std::string OrdinaryText() {
  const char* root = std::getenv("STOKER_SOURCE_DIR");
  std::vector<std::filesystem::path> paths;
  for (const char* room : {"numa", "mmap", "experts", "runtime", "tests", "docs"}) {
    const auto folder = std::filesystem::path(root == nullptr ? "." : root) / room;
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      const auto extension = entry.path().extension();
      if (extension == ".cc" || extension == ".h" || extension == ".md" || extension == ".py") {
        paths.push_back(entry.path());
      }
    }
  }
  std::sort(paths.begin(), paths.end());
  std::string text;
  for (const auto& path : paths) text += testing::ReadText(path);
  REQUIRE(text.size() > 100000);
  while (text.size() < (4 << 20)) text += text.substr(0, (4 << 20) - text.size());
  return text;
}

std::unique_ptr<const Tokenizer> AnyTokenizer() {
  const char* golden = std::getenv("STOKER_GOLDEN_DIR");
  const auto directory = std::filesystem::path(golden == nullptr ? "" : golden) / "kq";
  if (!std::filesystem::exists(directory / "tokenizer.json")) {
    return testing::Open(testing::ReferenceJson());
  }
  return Tokenizer::OpenDirectory(directory, 0);
}

// A tokenizer.json with 200,000 tokens made of 199,744 merges, as many as M1 has.
std::string LargeTokenizerJson() {
  std::mt19937_64 random(5);
  nlohmann::ordered_json description = testing::ReferenceJson();
  auto& model = description["model"];
  nlohmann::ordered_json vocab;
  std::vector<std::string> tokens;
  std::set<std::string> seen;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    tokens.push_back(AlphabetSpelling(std::string_view(&byte, 1)));
  }
  auto merges = nlohmann::ordered_json::array();
  while (tokens.size() < 200000) {
    const std::string& left = tokens[random() % std::min<size_t>(tokens.size(), 3000)];
    const std::string& right = tokens[random() % tokens.size()];
    if (left.size() + right.size() > 24 || !seen.insert(left + right).second) continue;
    merges.push_back({left, right});
    tokens.push_back(left + right);
  }
  model.erase("vocab");
  std::string text = "{";
  for (size_t id = 0; id < tokens.size(); ++id) {
    text += (id > 0 ? "," : "") + nlohmann::json(tokens[id]).dump() + ":" + std::to_string(id);
  }
  model["merges"] = merges;
  for (size_t i = 0; i < description["added_tokens"].size(); ++i) {
    description["added_tokens"][i]["id"] = 200000 + i;
  }
  std::string json = description.dump();
  const std::string anchor = "\"merges\":[[";
  return json.insert(json.find(anchor), "\"vocab\":" + text + "},");
}

}  // namespace

TEST_CASE("ordinary text at 20 MB/s or more on one thread") {
  const auto tokenizer = AnyTokenizer();
  const std::string text = OrdinaryText();
  double best = 1e9;
  for (int round = 0; round < 7; ++round) {
    const double start = ThreadSeconds();
    const auto ids = tokenizer->Encode(text, SpecialTokens::kParse);
    const double seconds = ThreadSeconds() - start;
    if (round == 0) {
      std::printf("first call: %.1f MB/s\n", static_cast<double>(text.size()) / seconds * 1e-6);
    }
    best = std::min(best, seconds);
    REQUIRE(ids.size() > text.size() / 16);
  }
  const double rate = static_cast<double>(text.size()) / best * 1e-6;
  std::printf("encode: %.1f MB/s of processor time, %zu bytes\n", rate, text.size());
  if (STOKER_TIMES_COUNT) CHECK(rate >= 20.0);
}

TEST_CASE("splitting with PCRE2 and with the scanner") {
  const std::string text = OrdinaryText();
  VocabularySource source;
  source.stages.push_back({.pattern = kO200kSplitPattern});
  for (const bool scanner : {false, true}) {
    const PreTokenizer splitter(source, scanner);
    PreTokenizer::Scratch scratch;
    std::vector<TextRange> pieces;
    double best = 1e9;
    for (int round = 0; round < 3; ++round) {
      const double start = ThreadSeconds();
      for (size_t from = 0; from < text.size();) {
        from = splitter.Split(text, from, scratch, &pieces);
      }
      best = std::min(best, ThreadSeconds() - start);
    }
    std::printf("split: %.1f MB/s with %s\n", static_cast<double>(text.size()) / best * 1e-6,
                std::string(splitter.engine()).c_str());
  }
}

TEST_CASE("a vocabulary of 200,000 tokens loads in less than a second") {
  const std::string json = LargeTokenizerJson();
  const double start = ThreadSeconds();
  const auto tokenizer =
      Tokenizer::FromSource(ParseTokenizerJson(json, "tokenizer.json"), 200064);
  const double seconds = ThreadSeconds() - start;
  std::printf("load: %.3f s for %.1f MB of JSON, %.1f MiB held\n", seconds,
              static_cast<double>(json.size()) * 1e-6,
              static_cast<double>(tokenizer->memory_bytes()) / (1 << 20));
  CHECK(tokenizer->memory_bytes() < (64u << 20));
  if (STOKER_TIMES_COUNT) CHECK(seconds < 1.0);
  const auto ids = tokenizer->Encode("some text to encode", SpecialTokens::kParse);
  CHECK(tokenizer->Decode(ids) == "some text to encode");
}

}  // namespace stoker
