// Every hand-made malformed model is refused with one line naming file, field and reason, in
// bounded memory.

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "tests/mmap/malformed_cases.h"
#include "tests/support/catch.h"

namespace stoker::test {

TEST_CASE("the tiny models are valid before anything is changed") {
  TempDir directory;
  WriteFile(directory / "model.gguf", TinyGguf().Build());
  CHECK(OpenInChild(directory / "model.gguf").answer == "");
  TinyCheckpoint().Write(directory.path());
  CHECK(OpenInChild(directory.path()).answer == "");
}

TEST_CASE("every malformed model is refused with file, field and reason, in bounded memory") {
  const std::vector<MalformedCase> cases = AllMalformedCases();
  CHECK(cases.size() >= 120);
  std::printf("%zu hand-made malformed models\n", cases.size());
  std::set<std::string> names;
  for (const MalformedCase& test : cases) {
    INFO("case: " << test.name);
    CHECK(names.insert(test.name).second);
    TempDir directory;
    const ChildResult result = OpenInChild(test.write(directory.path()));
    const std::string& message = result.answer;
    CAPTURE(message);
    CHECK(result.finished);
    CHECK(message != "");
    CHECK(message.find(test.file) != std::string::npos);
    CHECK(message.find(test.field) != std::string::npos);
    CHECK(message.find(test.reason) != std::string::npos);
    CHECK(message.size() < 1000);
    CHECK(std::all_of(message.begin(), message.end(),
                      [](char c) { return c >= 0x20 && c < 0x7f; }));
    CHECK(result.peak_rise_bytes <= AllowedPeakBytes(directory.path()));
  }
}

}  // namespace stoker::test
