// The stoker binary stopped in the middle of its work: what it had found out is not lost, and what
// it says of itself is true.

#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/runtime/cli/demo_model.h"
#include "tests/runtime/cli/process_checks.h"
#include "tests/runtime/cli/stoker_process.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

using Json = nlohmann::json;
using Terminal = StokerProcess::Terminal;

TEST_CASE("the statistics of a prompt that was stopped are those of its prefill") {
  const TempDir dir;
  std::string text;
  while (text.size() < 90'000) text += "the road climbs past the old house ";
  WriteFile(dir / "text", text);
  StokerProcess process({"run", Model(), "-f", (dir / "text").string(), "--raw", "-c", "100000",
                         "-ub", "64", "--stats", "json"},
                        Terminal::kNone);
  process.CloseInput();
  REQUIRE(process.WaitForError("mode: "));
  ::usleep(50'000);  // Until then a signal ends the process at once.
  process.Signal(SIGINT);
  const ProcessResult r = process.Finish(120);
  CAPTURE(r.err);
  CHECK(r.exit_code == 130);
  const size_t at = r.err.find("{\"prompt_tokens\"");
  REQUIRE(at != r.err.npos);
  const Json stats = Json::parse(r.err.substr(at));
  CHECK(stats["stopped"] == "interrupted");
  CHECK(stats["prefilled_tokens"] < stats["prompt_tokens"]);
  CHECK(stats["prefill"]["seconds"].get<double>() >= stats["prefill_seconds"].get<double>());
  CHECK(stats["decode"]["seconds"] == 0.0);
  const double fed = stats["prefilled_tokens"].get<double>();
  CHECK(stats["prefill_ts"].get<double>() * stats["prefill_seconds"].get<double>() <= fed + 1);
}

TEST_CASE("bench keeps the rows it has measured when it is stopped") {
  for (const bool is_array : {false, true}) {
    CAPTURE(is_array);
    StokerProcess process({"bench", Model(), "-p", "8,60000", "-n", "0", "-r", "1", "--no-warmup",
                           "-ub", "64", "-v", "-t", "1", "-o", is_array ? "json" : "jsonl"},
                          Terminal::kNone);
    process.CloseInput();
    REQUIRE(process.WaitForError("pp8: "));
    // A row of its own is out before the next one is there.
    if (!is_array) {
      REQUIRE(process.WaitFor("\n"));
    }
    process.Signal(SIGINT);
    const ProcessResult r = process.Finish(120);
    CAPTURE(r.out, r.err);
    CHECK(r.exit_code == 130);
    const Json parsed = Json::parse(r.out);
    CHECK(parsed.is_array() == is_array);
    const Json& row = is_array ? parsed.at(0) : parsed;
    CHECK(row["n_prompt"] == 8);
    if (is_array) {
      CHECK(parsed.size() == 1);
    }
  }
}

TEST_CASE("perplexity ends when nobody reads it") {
  const TempDir dir;
  std::string text;
  while (text.size() < 4'000'000) text += "the road climbs past the old house ";
  WriteFile(dir / "text", text);
  StokerProcess process({"perplexity", Model(), "-f", (dir / "text").string(), "-c", "64"},
                        Terminal::kNone);
  process.CloseInput();
  REQUIRE(process.WaitFor("[1]", 120));
  process.CloseOutput();
  CHECK(process.Finish(10).exit_code == 0);  // All of the text would take minutes.
}

}  // namespace
}  // namespace stoker::test
