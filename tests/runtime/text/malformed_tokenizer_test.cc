// Hand-made bad tokenizer files: each is refused in one line that names file, field and reason, and
// none takes more memory than its size allows.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <set>

#include "mmap/format_error.h"
#include "tests/runtime/text/text_fixture.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;
using testing::ReferenceJson;

// What opening these files says, without the directory's name; "" when they open.
std::string Refusal(const std::string& json, const std::string& config, int64_t vocab_size) {
  test::TempDir directory;
  test::WriteFile(directory / "tokenizer.json", json);
  if (!config.empty()) test::WriteFile(directory / "tokenizer_config.json", config);
  try {
    Tokenizer::OpenDirectory(directory.path(), vocab_size);
  } catch (const FormatError& error) {
    const std::string message = error.what();
    const std::string prefix = directory.path().string() + "/";
    CHECK(message.starts_with(prefix));
    return message.substr(prefix.size());
  }
  return "";
}

struct Case {
  const char* field;
  const char* reason;
  std::string json;
};

std::string Changed(const std::function<void(ordered_json&)>& change) {
  ordered_json description = ReferenceJson();
  change(description);
  return description.dump();
}

// The reference with one member's text replaced, for JSON that no library would write.
std::string Spliced(const std::string& from, const std::string& to) {
  std::string text = ReferenceJson().dump();
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string Nested(std::string_view open, std::string_view middle, std::string_view close,
                   int depth) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += open;
  text += middle;
  for (int i = 0; i < depth; ++i) text += close;
  return text;
}

std::vector<Case> Cases() {
  const auto pattern = [](ordered_json& d) -> ordered_json& {
    return d["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
  };
  std::vector<Case> cases = {
      {"file", "is empty", ""},
      {"file", "malformed JSON", " \n "},
      {"root", "is not an object", "[]"},
      {"root", "is not an object", "7"},
      {"", "malformed JSON", "{"},
      {"", "malformed JSON", "{\"model\": {"},
      {"model", "is missing", "{}"},
      {"file", "malformed JSON", "{\"model\": \"\xff\"}"},
      {"file", "malformed JSON", "{\"version\": \"1"},
      {"root", "is not an object", std::string(100000, '[')},
      {"", "malformed JSON", Nested("{\"a\":", "1", "}", 100000).substr(0, 400000)},
      {"model", "is missing", Nested("{\"a\":", "1", "}", 100000)},
      {"model", "is missing", "{\"x\": " + Nested("[", "", "]", 100000) + "}"},
      {"pre_tokenizer", "is not an object",
       "{\"pre_tokenizer\": " + Nested("[", "", "]", 5000) + "}"},
      {"pre_tokenizer", "is nested too deeply",
       "{\"pre_tokenizer\": " +
           Nested(R"({"type": "Sequence", "pretokenizers": [)", "", "]}", 5000) + "}"},
      {"root", "text follows", ReferenceJson().dump() + " {}"},
      {"version", "appears twice", Spliced("\"version\":", "\"version\":1,\"version\":")},
      {"model.type", "'WordPiece' is not BPE",
       Changed([](auto& d) { d["model"]["type"] = "WordPiece"; })},
      {"model", "is not an object", Changed([](auto& d) { d["model"] = 1; })},
      {"model.vocab", "is missing", Changed([](auto& d) { d["model"].erase("vocab"); })},
      {"model.vocab", "is not an object",
       Changed([](auto& d) { d["model"]["vocab"] = ordered_json::array(); })},
      {"model.vocab", "holds no tokens", Changed([](auto& d) {
         d["model"]["vocab"] = ordered_json::object();
         d["model"]["merges"] = ordered_json::array();
         d["added_tokens"] = ordered_json::array();
       })},
      {"model.vocab['the']", "is not a token id",
       Changed([](auto& d) { d["model"]["vocab"]["the"] = -1; })},
      {"model.vocab['the']", "is not a token id",
       Changed([](auto& d) { d["model"]["vocab"]["the"] = int64_t{1} << 31; })},
      {"model.vocab['the']", "is not an integer",
       Changed([](auto& d) { d["model"]["vocab"]["the"] = "x"; })},
      {"model.vocab['the']", "is not an integer",
       Changed([](auto& d) { d["model"]["vocab"]["the"] = 1.5; })},
      {"model.vocab['!']", "is not an integer",
       Spliced("\"!\":0", "\"!\":123456789012345678901234567890")},
      {"model.vocab", "id 5 is given to", Changed([](auto& d) { d["model"]["vocab"]["the"] = 5; })},
      {"model.vocab", "have the same spelling", Spliced("\"vocab\":{", "\"vocab\":{\"!\":620,")},
      {"model.vocab", "is an empty token", Changed([](auto& d) { d["model"]["vocab"][""] = 620; })},
      {"model.vocab", "but the model's vocabulary has 640 rows",
       Changed([](auto& d) { d["model"]["vocab"]["beyond"] = 640; })},
      {"model.vocab", "no token for byte 33", Changed([](auto& d) {
         d["model"]["vocab"].erase("!");
         d["model"]["merges"] = ordered_json::array();
       })},
      {"model.merges", "is missing", Changed([](auto& d) { d["model"].erase("merges"); })},
      {"model.merges", "is not an array", Changed([](auto& d) { d["model"]["merges"] = "a b"; })},
      {"model.merges[0]", "names a token that is not in the vocabulary",
       Changed([](auto& d) { d["model"]["merges"][0] = {"q", "zzz"}; })},
      {"model.merges[1]", "repeats merge 0",
       Changed([](auto& d) { d["model"]["merges"][1] = d["model"]["merges"][0]; })},
      {"model.merges[2]", "not two parts",
       Changed([](auto& d) { d["model"]["merges"][2] = "abc"; })},
      {"model.merges[2]", "not two parts",
       Changed([](auto& d) { d["model"]["merges"][2] = "a b c"; })},
      {"model.merges[2]", "fewer than two parts",
       Changed([](auto& d) { d["model"]["merges"][2] = ordered_json::array({"a"}); })},
      {"model.merges[2]", "more than two parts",
       Changed([](auto& d) { d["model"]["merges"][2] = {"a", "b", "c"}; })},
      {"model.merges[2]", "a part that is not a string",
       Changed([](auto& d) { d["model"]["merges"][2] = {"a", 1}; })},
      {"model.merges[2]", "neither a string nor a pair",
       Changed([](auto& d) { d["model"]["merges"][2] = 1; })},
      {"model.merges[0]", "names a token",
       Changed([](auto& d) { d["model"]["merges"][0] = {"", "a"}; })},
      {"model.dropout", "not supported", Changed([](auto& d) { d["model"]["dropout"] = 0.1; })},
      {"model.continuing_subword_prefix", "not supported",
       Changed([](auto& d) { d["model"]["continuing_subword_prefix"] = "##"; })},
      {"normalizer", "not supported",
       Changed([](auto& d) { d["normalizer"] = {{"type", "NFC"}}; })},
      {"added_tokens", "is not an array", Changed([](auto& d) { d["added_tokens"] = 1; })},
      {"added_tokens[0].id", "is missing",
       Changed([](auto& d) { d["added_tokens"][0].erase("id"); })},
      {"added_tokens[0].id", "is not an integer",
       Changed([](auto& d) { d["added_tokens"][0]["id"] = "600"; })},
      {"added_tokens[0].id", "is not a token id",
       Changed([](auto& d) { d["added_tokens"][0]["id"] = int64_t{1} << 40; })},
      {"added_tokens[0].content", "is missing",
       Changed([](auto& d) { d["added_tokens"][0].erase("content"); })},
      {"added_tokens[0].content", "is empty",
       Changed([](auto& d) { d["added_tokens"][0]["content"] = ""; })},
      {"added_tokens[0].single_word", "not supported",
       Changed([](auto& d) { d["added_tokens"][0]["single_word"] = true; })},
      {"added_tokens[0].special", "is not true or false",
       Changed([](auto& d) { d["added_tokens"][0]["special"] = 1; })},
      {"added_tokens[0].normalized", "is not true or false",
       Changed([](auto& d) { d["added_tokens"][0]["normalized"] = 1; })},
      {"added_tokens[1].id", "is given to an earlier added token",
       Changed([](auto& d) { d["added_tokens"][1]["id"] = d["added_tokens"][0]["id"]; })},
      {"model.vocab", "id 5 is given to", Changed([](auto& d) { d["added_tokens"][0]["id"] = 5; })},
      {"model.vocab", "but the vocabulary gives it",
       Changed([](auto& d) { d["added_tokens"][0]["content"] = "the"; })},
      {"model.vocab", "the limit is 256",
       Changed([](auto& d) { d["added_tokens"][0]["content"] = std::string(300, '<'); })},
      {"pre_tokenizer", "no ByteLevel", Changed([](auto& d) { d.erase("pre_tokenizer"); })},
      {"pre_tokenizer", "no ByteLevel", Changed([](auto& d) { d["pre_tokenizer"] = nullptr; })},
      {"pre_tokenizer.type", "'Metaspace' is not supported",
       Changed([](auto& d) { d["pre_tokenizer"] = {{"type", "Metaspace"}}; })},
      {"pre_tokenizer.pretokenizers[0].behavior", "'MergedWithNext' is not supported",
       Changed([](auto& d) {
         d["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedWithNext";
       })},
      {"pre_tokenizer.pretokenizers[0].pattern.String", "not supported", Changed([](auto& d) {
         d["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", " "}};
       })},
      {"pre_tokenizer.pretokenizers[1].add_prefix_space", "not supported", Changed([](auto& d) {
         d["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true;
       })},
      {"pre_tokenizer.pretokenizers[2]", "follows the ByteLevel step", Changed([](auto& d) {
         d["pre_tokenizer"]["pretokenizers"].push_back({{"type", "ByteLevel"}});
       })},
      {"pre_tokenizer", "pattern '(a+)+$': needs more than",
       Changed([&](auto& d) { pattern(d) = "(a+)+$"; })},
      {"pre_tokenizer", "pattern '(': ", Changed([&](auto& d) { pattern(d) = "("; })},
      {"pre_tokenizer", "can match nothing", Changed([&](auto& d) { pattern(d) = "a*"; })},
      {"decoder.type", "'WordPiece' is not ByteLevel",
       Changed([](auto& d) { d["decoder"] = {{"type", "WordPiece"}}; })},
  };
  // Truncation at every kilobyte.
  const std::string whole = ReferenceJson().dump();
  for (size_t size = 1024; size < whole.size(); size += 1024) {
    cases.push_back({"", "malformed JSON", whole.substr(0, size)});
  }
  return cases;
}

uint64_t PeakBytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

// How far the peak of a fresh process rises while it parses and builds; UINT64_MAX when it dies.
uint64_t PeakRise(const std::string& json) {
  test::TempDir directory;
  test::WriteFile(directory / "tokenizer.json", json);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const uint64_t before = PeakBytes();
    try {
      Tokenizer::OpenDirectory(directory.path(), 0);
    } catch (const FormatError&) {
    }
    const uint64_t rise = PeakBytes() - before;
    const bool sent = ::write(ends[1], &rise, sizeof(rise)) == sizeof(rise);
    ::_exit(sent ? 0 : 1);
  }
  ::close(ends[1]);
  uint64_t rise = UINT64_MAX;
  if (::read(ends[0], &rise, sizeof(rise)) != sizeof(rise)) rise = UINT64_MAX;
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return rise;
}

std::string Repeated(const std::string& head, const std::string& unit, size_t bytes,
                     const std::string& tail) {
  std::string text = head;
  text.reserve(bytes + unit.size() + tail.size());
  while (text.size() < bytes) text += unit;
  return text + tail;
}

}  // namespace

TEST_CASE("the reference itself opens") { CHECK(Refusal(ReferenceJson().dump(), "{}", 640) == ""); }

TEST_CASE("every malformed tokenizer.json is refused in one line with file, field and reason") {
  const std::vector<Case> cases = Cases();
  CHECK(cases.size() >= 60);
  for (const Case& test : cases) {
    const std::string message = Refusal(test.json, "", 640);
    CAPTURE(test.field, test.reason, message);
    CHECK(message.starts_with("tokenizer.json: " + std::string(test.field)));
    CHECK(message.find(test.reason) != std::string::npos);
    CHECK(message.size() < 500);
    for (const char c : message) CHECK((c >= 0x20 && c < 0x7f));
  }
}

TEST_CASE("a missing tokenizer.json says what to do") {
  test::TempDir directory;
  try {
    Tokenizer::OpenDirectory(directory.path(), 0);
    FAIL("opened nothing");
  } catch (const FormatError& error) {
    CHECK(std::string(error.what()).find("is missing; download it") != std::string::npos);
  }
}

TEST_CASE("every malformed tokenizer_config.json is refused the same way") {
  const std::vector<std::array<std::string, 3>> cases = {
      {"[]", "root", "is not an object"},
      {"{", "", "malformed JSON"},
      {"{} {}", "root", "text follows"},
      {R"({"eos_token": 7})", "eos_token", "is not a string"},
      {R"({"eos_token": ""})", "eos_token", "is empty"},
      {R"({"eos_token": {}})", "eos_token", "is empty"},
      {R"({"eos_token": {"content": []}})", "eos_token.content", "is not a string"},
      {R"({"eos_token": "<nobody>"})", "eos_token", "'<nobody>' is not a token"},
      {R"({"eos_token": "a", "eos_token": "b"})", "eos_token", "appears twice"},
      {R"({"add_prefix_space": true})", "add_prefix_space", "not supported"},
      {R"({"add_prefix_space": "no"})", "add_prefix_space", "is not true or false"},
      {std::string(2000, '['), "root", "is not an object"},
      {"{\"eos_token\": {\"content\": " + Nested("[", "", "]", 2000) + "}}", "eos_token.content",
       "is not a string"},
  };
  for (const auto& [config, field, reason] : cases) {
    const std::string message = Refusal(ReferenceJson().dump(), config, 0);
    CAPTURE(config, message);
    CHECK(message.starts_with("tokenizer_config.json: " + field));
    CHECK(message.find(reason) != std::string::npos);
  }
}

TEST_CASE("hostile files stay within 64 MiB and eight times their size") {
  const size_t size = 12 << 20;
  const std::vector<std::string> files = {
      Repeated("", "[", size, ""),
      Repeated("{\"a\":[", "0,", size, "0]}"),
      Repeated("{\"a\":[", "\"\",", size, "0]}"),
      Repeated("{", "\"\":1,", size, "\"\":1}"),
      Repeated("{\"model\":{\"vocab\":{", "\"\":1,", size, "\"\":1}}}"),
      Repeated("{\"model\":{\"merges\":[", "[\"\",\"\"],", size, "\"\"]}}"),
      Repeated("{\"model\":{\"merges\":[", "\" \",", size, "\"\"]}}"),
      Repeated("{\"added_tokens\":[", "{\"id\":1,\"content\":\"a\"},", size, "1]}"),
      Repeated("{\"added_tokens\":[{", "\"\\u0041\":1,", size, "1}]}"),
  };
  for (const std::string& json : files) {
    const uint64_t rise = PeakRise(json);
    CAPTURE(json.substr(0, 60), rise, json.size());
#if !defined(__SANITIZE_THREAD__)  // whose shadow takes several times the memory
    CHECK(rise <= (uint64_t{64} << 20) + 8 * json.size());
#endif
  }
}

}  // namespace stoker
