// The tokenizer gives the reference's ids, keeps special names in user text plain, and knows which
// ids are tokens at all.

#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <thread>

#include "mmap/format_error.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

using testing::Open;
using testing::ReferenceJson;

int CountMismatches(const Tokenizer& tokenizer, const nlohmann::ordered_json& cases) {
  int mismatches = 0;
  for (const auto& test : cases) {
    const auto text = test["text"].get<std::string>();
    const auto special =
        test["plain"].get<bool>() ? SpecialTokens::kPlain : SpecialTokens::kParse;
    if (tokenizer.Encode(text, special) == test["ids"].get<std::vector<TokenId>>()) continue;
    ++mismatches;
    UNSCOPED_INFO("differs: " << test["text"].dump());
  }
  return mismatches;
}

}  // namespace

TEST_CASE("the reference's ids on every stored case") {
  const auto tokenizer = Open(ReferenceJson());
  const auto stored = testing::ReadJson(testing::DataPath("tokenizer_cases.json"));
  REQUIRE(stored["cases"].size() >= 300);
  CHECK(CountMismatches(*tokenizer, stored["cases"]) == 0);
  for (const auto& test : stored["cases"]) {
    const auto ids = test["ids"].get<std::vector<TokenId>>();
    CHECK(tokenizer->Decode(ids) == test["text"].get<std::string>());
  }
}

TEST_CASE("the reference's ids for other pre-tokenizers and options") {
  const auto stored = testing::ReadJson(testing::DataPath("tokenizer_cases.json"));
  REQUIRE(stored["variants"].size() >= 7);
  for (const auto& variant : stored["variants"]) {
    INFO("variant: " << variant["name"].get<std::string>());
    auto description = ReferenceJson();
    description.update(variant["patch"]);
    description["model"].update(variant["model_patch"]);
    CHECK(CountMismatches(*Open(description), variant["cases"]) == 0);
  }
}

TEST_CASE("merges written as one string or as pairs mean the same") {
  auto description = ReferenceJson();
  for (auto& merge : description["model"]["merges"]) {
    const auto parts = merge.is_array() ? merge.get<std::vector<std::string>>()
                                        : std::vector<std::string>();
    if (parts.size() == 2) {
      merge = parts[0] + " " + parts[1];
    } else {
      const auto text = merge.get<std::string>();
      const size_t space = text.find(' ');
      merge = nlohmann::ordered_json::array({text.substr(0, space), text.substr(space + 1)});
    }
  }
  const auto stored = testing::ReadJson(testing::DataPath("tokenizer_cases.json"));
  CHECK(CountMismatches(*Open(description), stored["cases"]) == 0);
}

TEST_CASE("special names are tokens where they are parsed and text where they are not") {
  const auto tokenizer = Open(ReferenceJson());
  const TokenId end = *tokenizer->Find("<end_of_sentence>");
  const TokenId think = *tokenizer->Find("<think>");
  const std::string text = "a<end_of_sentence><think>b";
  const auto has = [](const std::vector<TokenId>& ids, TokenId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  CHECK(has(tokenizer->Encode(text, SpecialTokens::kParse), end));
  CHECK_FALSE(has(tokenizer->Encode(text, SpecialTokens::kPlain), end));
  CHECK(has(tokenizer->Encode(text, SpecialTokens::kPlain), think));

  SECTION("by range") {
    const std::string twice = "<end_of_sentence>x<end_of_sentence>y<end_of_sentence>";
    const size_t middle = twice.find('x') + 1;
    const std::vector<TextRange> plain = {{middle, twice.find('y')}};
    const auto ids = tokenizer->Encode(twice, plain);
    CHECK(std::count(ids.begin(), ids.end(), end) == 2);
    CHECK(ids.front() == end);
    CHECK(ids.back() == end);
    CHECK(tokenizer->Decode(ids) == twice);
    // One byte of overlap is enough: no name may be put together from two parts.
    for (size_t cut = middle; cut < middle + 17; ++cut) {
      const std::vector<TextRange> part = {{cut, cut + 1}};
      const auto split = tokenizer->Encode(twice, part);
      CHECK(std::count(split.begin(), split.end(), end) == 2);
    }
  }
  SECTION("ranges do not change how ordinary text splits") {
    const std::string words = "system\n  hello world\n\nmore";
    const std::vector<TextRange> plain = {{7, 14}, {20, 22}};
    CHECK(tokenizer->Encode(words, plain) == tokenizer->Encode(words, SpecialTokens::kParse));
  }
}

TEST_CASE("a whole piece of plain text is never an added token") {
  auto description = ReferenceJson();
  description["model"]["ignore_merges"] = true;
  description["pre_tokenizer"] = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const auto tokenizer = Open(description);
  const std::string name = "<end_of_sentence>";
  const TokenId end = *tokenizer->Find(name);
  CHECK(tokenizer->Encode(name, SpecialTokens::kParse) == std::vector<TokenId>{end});
  const auto ids = tokenizer->Encode(name, SpecialTokens::kPlain);
  CHECK(std::find(ids.begin(), ids.end(), end) == ids.end());
  CHECK(tokenizer->Decode(ids) == name);
}

TEST_CASE("normalized added tokens are looked for in what the others leave") {
  auto description = ReferenceJson();
  auto& added = description["added_tokens"];
  const auto add = [&](const std::string& content, bool special) {
    const auto id = static_cast<TokenId>(588 + added.size());
    const nlohmann::ordered_json token = {{"id", id},
                                          {"content", content},
                                          {"single_word", false},
                                          {"lstrip", false},
                                          {"rstrip", false},
                                          {"normalized", true},
                                          {"special", special}};
    added.push_back(token);
    return id;
  };
  const TokenId longer = add("x<think", false);
  const TokenId system = add("<sys>", true);
  const auto tokenizer = Open(description);
  const TokenId think = *tokenizer->Find("<think>");
  const auto count = [](const std::vector<TokenId>& ids, TokenId id) {
    return std::count(ids.begin(), ids.end(), id);
  };
  // Although it begins further left and is as long.
  const auto both = tokenizer->Encode("x<think>y", SpecialTokens::kParse);
  CHECK(count(both, think) == 1);
  CHECK(count(both, longer) == 0);
  const auto alone = tokenizer->Encode("ax<think y", SpecialTokens::kParse);
  CHECK(count(alone, think) == 0);
  CHECK(count(alone, longer) == 1);
  CHECK(tokenizer->Decode(alone) == "ax<think y");

  // Plain ranges are places of the whole text in the second search too.
  const std::string text = "<think><sys>a<sys>";
  CHECK(count(tokenizer->Encode(text, SpecialTokens::kParse), system) == 2);
  CHECK(count(tokenizer->Encode(text, SpecialTokens::kPlain), system) == 0);
  const std::vector<TextRange> plain = {{13, 18}};
  const auto one = tokenizer->Encode(text, plain);
  CHECK(count(one, system) == 1);
  CHECK(one[1] == system);
}

TEST_CASE("a text too long for so many tokens is known without encoding it") {
  auto description = ReferenceJson();
  const auto tokenizer = Open(description);
  uint64_t longest = 0;
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    longest = std::max<uint64_t>(longest, tokenizer->Bytes(id).size());
  }
  REQUIRE(longest > 2);
  CHECK(tokenizer->MaxTextBytes(0) == 0);
  CHECK(tokenizer->MaxTextBytes(100) == 100 * longest);
  CHECK(tokenizer->MaxTextBytes(INT64_MAX) == UINT64_MAX);
  const auto stored = testing::ReadJson(testing::DataPath("tokenizer_cases.json"));
  for (const auto& test : stored["cases"]) {
    const auto n_tokens = static_cast<int64_t>(test["ids"].size());
    CHECK(test["text"].get<std::string>().size() <= tokenizer->MaxTextBytes(n_tokens));
  }
  // White space beside this token takes none.
  description["added_tokens"][0]["lstrip"] = true;
  CHECK(Open(description)->MaxTextBytes(1) == UINT64_MAX);
}

TEST_CASE("bytes that are not UTF-8 are read as U+FFFD") {
  const auto tokenizer = Open(ReferenceJson());
  const auto decoded = [&](std::string_view bytes) {
    return tokenizer->Decode(tokenizer->Encode(bytes, SpecialTokens::kParse));
  };
  const std::string r = "\xef\xbf\xbd";
  CHECK(decoded("a\xff"
                "b") == "a" + r + "b");
  CHECK(decoded("\xc3") == r);                          // unfinished
  CHECK(decoded("\xe4\xb8") == r);                      // one maximal subpart
  CHECK(decoded("\xe4\xb8" "a") == r + "a");
  CHECK(decoded("\xed\xa0\x80") == r + r + r);          // a surrogate
  CHECK(decoded("\xc0\xaf") == r + r);                  // overlong
  CHECK(decoded("\xf4\x90\x80\x80") == r + r + r + r);  // beyond U+10FFFF
  CHECK(decoded("\xf0\x9f\x9a\x80") == "\xf0\x9f\x9a\x80");
  CHECK(decoded(std::string_view("a\0b", 3)) == std::string("a\0b", 3));

  // Ranges keep to their text when it grows by the repair.
  const TokenId end = *tokenizer->Find("<end_of_sentence>");
  const std::string text = "\xff\xff<end_of_sentence>\xff<end_of_sentence>";
  const std::vector<TextRange> plain = {{2, 20}};
  const auto ids = tokenizer->Encode(text, plain);
  CHECK(std::count(ids.begin(), ids.end(), end) == 1);
  CHECK(ids.back() == end);
}

TEST_CASE("ids beyond the tokenizer are known to be no tokens") {
  const auto description = ReferenceJson();
  const auto tokenizer = Open(description, 620);
  const auto first_unknown = static_cast<TokenId>(description["model"]["vocab"].size() +
                                                  description["added_tokens"].size());
  CHECK(tokenizer->vocab_size() == 620);
  CHECK(tokenizer->IsKnown(first_unknown - 1));
  CHECK_FALSE(tokenizer->IsKnown(first_unknown));
  CHECK_FALSE(tokenizer->IsKnown(-1));
  CHECK_FALSE(tokenizer->IsKnown(620));
  CHECK(tokenizer->Bytes(first_unknown).empty());
  CHECK(tokenizer->Bytes(100000).empty());
  REQUIRE(tokenizer->never_sampled().size() == static_cast<size_t>(620 - first_unknown));
  CHECK(tokenizer->never_sampled().front() == first_unknown);
  CHECK(tokenizer->never_sampled().back() == 619);
}

TEST_CASE("end tokens come from the configuration, else by name") {
  const std::string reference = testing::ReadText(testing::DataPath("tokenizer.json"));
  const auto end_of = [&](const std::string& config) {
    test::TempDir directory;
    std::ofstream(directory / "tokenizer.json") << reference;
    if (!config.empty()) std::ofstream(directory / "tokenizer_config.json") << config;
    const auto tokenizer = Tokenizer::OpenDirectory(directory.path(), 0);
    REQUIRE(tokenizer->end_tokens().size() == 1);
    const TokenId id = tokenizer->end_tokens()[0];
    CHECK(tokenizer->IsEnd(id));
    CHECK_FALSE(tokenizer->IsEnd(id + 1));
    return std::string(tokenizer->Bytes(id));
  };
  CHECK(end_of("") == "<end_of_sentence>");
  CHECK(end_of("{}") == "<end_of_sentence>");
  CHECK(end_of(R"({"eos_token": null})") == "<end_of_sentence>");
  CHECK(end_of(R"({"eos_token": "<fim_pad>"})") == "<fim_pad>");
  CHECK(end_of(R"({"eos_token": {"content": "<fim_pad>", "special": true}})") == "<fim_pad>");
}

TEST_CASE("a chat template that comes with a model is not read, whatever it is") {
  const std::string reference = testing::ReadText(testing::DataPath("tokenizer.json"));
  test::TempDir directory;
  test::WriteFile(directory / "tokenizer.json", reference);
  test::WriteFile(directory / "chat_template.jinja", "");
  for (const char* value : {"null", "1", R"("{{ x }}")", R"({"name": []})",
                            R"([{"name": "default", "template": "{{ x }}"}])"}) {
    CAPTURE(value);
    const std::string config = R"({"eos_token": "<fim_pad>", "chat_template": )";
    test::WriteFile(directory / "tokenizer_config.json", config + value + "}");
    const auto tokenizer = Tokenizer::OpenDirectory(directory.path(), 0);
    CHECK(tokenizer->IsEnd(*tokenizer->Find("<fim_pad>")));
  }
  std::filesystem::remove(directory / "chat_template.jinja");
  std::filesystem::create_symlink("gone", directory / "chat_template.jinja");
  CHECK_NOTHROW(Tokenizer::OpenDirectory(directory.path(), 0));
}

TEST_CASE("links lead to files in the model's directory or its download cache") {
  namespace fs = std::filesystem;
  const std::string reference = testing::ReadText(testing::DataPath("tokenizer.json"));
  test::TempDir directory;
  const fs::path model = directory / "model";
  fs::create_directory(model);
  const auto opening = [&] { return Tokenizer::OpenDirectory(model, 0); };
  SECTION("out of the directory") {
    test::WriteFile(directory / "tokenizer.json", reference);
    fs::create_symlink("../tokenizer.json", model / "tokenizer.json");
    CHECK_THROWS_WITH(opening(), test::HasText("outside the model's directory"));
  }
  SECTION("a link to nothing is not an absent file") {
    fs::create_symlink("gone", model / "tokenizer.json");
    CHECK_THROWS_WITH(opening(), test::HasText("tokenizer.json: cannot open"));
  }
  SECTION("nor one in the place of an optional file") {
    test::WriteFile(model / "tokenizer.json", reference);
    CHECK_NOTHROW(opening());
    fs::create_symlink("gone", model / "tokenizer_config.json");
    CHECK_THROWS_WITH(opening(), test::HasText("tokenizer_config.json: cannot open"));
  }
  SECTION("a download cache of links into blobs") {
    const fs::path snapshot = directory / "snapshots/0123abc";
    fs::create_directories(snapshot);
    fs::create_directory(directory / "blobs");
    test::WriteFile(directory / "blobs/1", reference);
    test::WriteFile(directory / "blobs/2", R"({"eos_token": "<fim_pad>"})");
    fs::create_symlink("../../blobs/1", snapshot / "tokenizer.json");
    fs::create_symlink("../../blobs/2", snapshot / "tokenizer_config.json");
    const auto tokenizer = Tokenizer::OpenDirectory(snapshot, 0);
    CHECK(tokenizer->IsEnd(*tokenizer->Find("<fim_pad>")));
  }
}

TEST_CASE("threads share one tokenizer") {
  const auto tokenizer = Open(ReferenceJson());
  const auto stored = testing::ReadJson(testing::DataPath("tokenizer_cases.json"));
  std::vector<std::thread> threads;
  std::array<int, 4> wrong{};
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (const auto& test : stored["cases"]) {
        const auto special =
            test["plain"].get<bool>() ? SpecialTokens::kPlain : SpecialTokens::kParse;
        const auto ids = tokenizer->Encode(test["text"].get<std::string>(), special);
        if (ids != test["ids"].get<std::vector<TokenId>>()) ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::array<int, 4>{});
}

}  // namespace stoker
