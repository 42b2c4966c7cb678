#include "runtime/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "numa/nearest_name.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/token_ids.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

struct Seen {
  std::string text;
  int64_t count = 0;
  int ubatch = 0;
  std::vector<std::string> positional;
};
Seen g_seen;

std::function<int()> DeclareProbeCommand(CLI::App& app) {
  auto options = std::make_shared<Seen>();
  app.add_option("MODEL,-m,--model", options->positional, "model");
  app.add_option("-p,--prompt", options->text, "text");
  app.add_option("-n,--predict", options->count, "count")
      ->check(WholeNumber(-1, std::numeric_limits<int64_t>::max()));
  app.add_option("--ubatch-size", options->ubatch, "chunk")->check(WholeNumber(1, 100));
  return [options] {
    g_seen = *options;
    if (options->text == "throw") throw std::runtime_error("two\nlines");
    if (options->text == "usage") throw UsageError("they do not fit");
    if (options->text == "interrupt") throw InterruptedError();
    return 0;
  };
}

int RunWith(std::vector<std::string> arguments) {
  g_seen = {};
  const std::vector<Command> commands = {{"run", "runs", DeclareProbeCommand},
                                         {"perplexity", "scores", DeclareProbeCommand}};
  return RunCommandLine(commands, std::move(arguments));
}

TEST_CASE("exit codes: done, error, usage, interrupted") {
  CHECK(RunWith({"run", "m.gguf"}) == 0);
  CHECK(RunWith({"run", "m.gguf", "-p", "throw"}) == 1);
  CHECK(RunWith({"run", "m.gguf", "-p", "usage"}) == 2);
  CHECK(RunWith({"run", "m.gguf", "-p", "interrupt"}) == 130);
  CHECK(RunWith({}) == 2);
  CHECK(RunWith({"rnu"}) == 2);
  CHECK(RunWith({"run", "--promt", "x"}) == 2);
  CHECK(RunWith({"run", "-x"}) == 2);
  CHECK(RunWith({"run", "-n", "many"}) == 2);
  CHECK(RunWith({"run", "-n"}) == 2);
  CHECK(RunWith({"run", "--ubatch-size", "101"}) == 2);
  CHECK(RunWith({"--help"}) == 0);
  CHECK(RunWith({"help", "run"}) == 0);
  CHECK(RunWith({"run", "--help"}) == 0);
  CHECK(RunWith({"--version"}) == 0);
}

TEST_CASE("values that look like options are values") {
  CHECK(RunWith({"run", "m", "-p", "--- hello", "-n", "-1"}) == 0);
  CHECK(g_seen.text == "--- hello");
  CHECK(g_seen.count == -1);
  CHECK(RunWith({"run", "-p", "--promt", "m"}) == 0);
  CHECK(g_seen.text == "--promt");
  CHECK(RunWith({"run", "--prompt=-x", "m"}) == 0);
  CHECK(g_seen.text == "-x");
}

TEST_CASE("a value may stand behind =, and may be empty") {
  for (const char* name : {"-p", "--prompt"}) {
    CAPTURE(name);
    const std::string option(name);
    CHECK(RunWith({"run", "m", option + "=x"}) == 0);
    CHECK(g_seen.text == "x");
    CHECK(RunWith({"run", "m", option + "==x=y"}) == 0);
    CHECK(g_seen.text == "=x=y");
    CHECK(RunWith({"run", "m", option + "=", "-n", "5"}) == 0);
    CHECK(g_seen.text.empty());
    CHECK(g_seen.count == 5);
    CHECK(RunWith({"run", "m", option, "", "-n", "6"}) == 0);
    CHECK(g_seen.text.empty());
    CHECK(g_seen.count == 6);
    CHECK(RunWith({"run", "m", option + "=--", "-n", "7"}) == 0);
    CHECK(g_seen.text == "--");
    CHECK(g_seen.count == 7);
    CHECK(RunWith({"run", "m", option, "--predict="}) == 0);
    CHECK(g_seen.text == "--predict=");
  }
  CHECK(RunWith({"run", "m", "-n=5"}) == 0);
  CHECK(g_seen.count == 5);
  CHECK(RunWith({"run", "m", "-n="}) == 2);
  CHECK(RunWith({"run", "m", "-n", ""}) == 2);
  CHECK(RunWith({"run", "m", "-ub=", "64"}) == 2);
  CHECK(RunWith({"run", "m", "--promt=x"}) == 2);
  CHECK(RunWith({"run", "--", "--prompt=x"}) == 0);
  CHECK(g_seen.text.empty());
  CHECK(g_seen.positional == std::vector<std::string>{"--prompt=x"});
}

TEST_CASE("llama.cpp's short flags of several letters are known, others are not bundles") {
  CHECK(RunWith({"run", "m", "-ub", "64"}) == 0);
  CHECK(g_seen.ubatch == 64);
  CHECK(RunWith({"run", "m", "-ub=48"}) == 0);
  CHECK(g_seen.ubatch == 48);
  CHECK(RunWith({"run", "m", "-ngl", "99"}) == 2);  // not -n gl
  CHECK(RunWith({"run", "m", "-ngl=99"}) == 2);
  CHECK(RunWith({"run", "m", "-n5"}) == 2);
  CHECK(RunWith({"run", "-m", "m"}) == 0);
  CHECK(g_seen.positional == std::vector<std::string>{"m"});
}

TEST_CASE("whole numbers are decimal and whole") {
  CHECK(RunWith({"run", "m", "-n", "10"}) == 0);
  CHECK(g_seen.count == 10);
  CHECK(RunWith({"run", "m", "-n", "9223372036854775807"}) == 0);
  CHECK(g_seen.count == std::numeric_limits<int64_t>::max());
  for (const char* text : {"010", "0x10", "9223372036854775808", "99999999999999999999", "-2",
                           "1e3", "1.0", "+1", " 1", "1 "}) {
    CAPTURE(text);
    CHECK(RunWith({"run", "m", "-n", text}) == 2);
  }
}

TEST_CASE("edit distance counts swaps as one") {
  CHECK(EditDistance("", "") == 0);
  CHECK(EditDistance("abc", "") == 3);
  CHECK(EditDistance("kitten", "sitting") == 3);
  CHECK(EditDistance("rnu", "run") == 1);
  CHECK(EditDistance("perplexity", "preplexity") == 1);
}

TEST_CASE("the nearest name is found, a far one is not offered") {
  const std::vector<std::string> names = {"run",        "chat",   "bench",
                                          "perplexity", "--temp", "--top-p"};
  CHECK(NearestName("rnu", names) == "run");
  CHECK(NearestName("perplxity", names) == "perplexity");
  CHECK(NearestName("--tmep", names) == "--temp");
  CHECK(NearestName("-temp", names) == "--temp");
  CHECK(NearestName("--top-q", names) == "--top-p");
  CHECK(NearestName("quantize", names).empty());
  CHECK(NearestName("x", names).empty());
  CHECK(NearestName("rm", names).empty());
  CHECK(NearestName("rung", names) == "run");
}

TEST_CASE("token ids are read from the argument and from files") {
  CHECK(ParseTokenIds("1,2,3") == std::vector<TokenId>{1, 2, 3});
  CHECK(ParseTokenIds(" 7 ") == std::vector<TokenId>{7});
  CHECK_THROWS_AS(ParseTokenIds(""), UsageError);
  CHECK_THROWS_AS(ParseTokenIds("1,-2"), UsageError);
  CHECK_THROWS_AS(ParseTokenIds("1,2x"), UsageError);
  CHECK_THROWS_AS(ParseTokenIds("99999999999"), UsageError);
  const test::TempDir dir;
  test::WriteFile(dir / "ids", "1 2,\n3\n");
  CHECK(ParseTokenIds("@" + (dir / "ids").string()) == std::vector<TokenId>{1, 2, 3});
  CHECK_THROWS_AS(ParseTokenIds("@" + (dir / "none").string()), std::runtime_error);
}

}  // namespace
}  // namespace stoker
