// `stoker trace` and `stoker sim` as their users call them, on made-up traces.

#include <filesystem>
#include <string>
#include <vector>

#include "tests/runtime/cli/process_checks.h"
#include "tests/runtime/cli/stoker_process.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

struct MadeUpTrace {
  TempDir dir;
  std::string path;
  MadeUpTrace() : path((dir / "t.stk").string()) {
    const ProcessResult r = RunStoker(
        {"trace", "synth", path, "-n", "20", "--layers", "4", "--experts", "8", "--top-k", "2"});
    INFO(r.err);
    REQUIRE(r.exit_code == 0);
  }
};

TEST_CASE("sim takes specs with several parameters in a list") {
  const MadeUpTrace trace;
  const ProcessResult r =
      RunStoker({"sim", trace.path, "--policy", "2q:in=0.25,out=0.5,lfu:half_life=9,scope=layer",
                 "--policy", "arc", "--capacity", "5,8", "--csv"});
  CAPTURE(r.err);
  REQUIRE(r.exit_code == 0);
  for (const char* spec : {"2q:in=0.25,out=0.5", "lfu:half_life=9,scope=layer", "arc"}) {
    CHECK(Contains(r.out, std::string("\n\"") + spec + "\","));
  }
  CheckRefused({"sim", trace.path, "--policy", ""}, 2, "empty name");
  CheckRefused({"sim", trace.path, "--policy", "lru,,arc"}, 2, "empty name");
}

TEST_CASE("sim --help lists the policies with their parameters") {
  const ProcessResult r = RunStoker({"sim", "--help"});
  CHECK(r.exit_code == 0);
  for (const char* text : {"  least-stale ", "    half_life ", "0.5 .. 1e9 (128)", "./mine.so"}) {
    CHECK(Contains(r.out, text));
  }
}

TEST_CASE("what a command would ignore it refuses") {
  const MadeUpTrace trace;
  const std::vector<std::vector<std::string>> asked = {
      {"--policy", "nonsense"}, {"--capacity", "banana"}, {"--skip-tokens", "1"}, {"--seed", "5"}};
  for (const std::vector<std::string>& option : asked) {
    CheckRefused({"sim", trace.path, "--as-recorded", option[0], option[1]}, 2,
                 "--as-recorded and " + option[0] + " exclude each other");
  }
  CheckRefused({"sim", trace.path, "--capacity", "8", "--skip-tokens", "20"}, 1,
               "skip fewer tokens");
  CheckRefused({"trace", "info", trace.path, "--layers", "5"}, 2, "--layers is for `trace synth`");
  CheckRefused({"trace", "info", trace.path, "--to", "csv"}, 2, "--to is for `trace export`");
  CheckRefused({"trace", "info", trace.path, "-o", "X"}, 2, "--output is for `trace export`");
  CheckRefused({"trace", "export", trace.path, "-s", "3"}, 2, "--seed is for `trace synth`");
}

TEST_CASE("an export goes to stdout or, whole, to a file that is not the trace") {
  const MadeUpTrace trace;
  const std::string out = (trace.dir / "out").string();
  for (const char* format : {"csv", "jsonl", "oracleGeneral", "perfetto"}) {
    CAPTURE(format);
    const ProcessResult shown = RunStoker({"trace", "export", trace.path, "--to", format});
    CHECK(shown.exit_code == 0);
    CHECK(!shown.out.empty());
    const ProcessResult saved =
        RunStoker({"trace", "export", trace.path, "--to", format, "-o", out});
    CHECK(saved.exit_code == 0);
    CHECK(saved.out.empty());
    CHECK(ReadFile(out) == shown.out);
  }
  const std::string bytes = ReadFile(trace.path);
  const std::string alias = (trace.dir / "alias").string();
  std::filesystem::create_symlink(trace.path, alias);
  for (const std::string& same : {trace.path, alias}) {
    CheckRefused({"trace", "export", trace.path, "-o", same}, 2, "is the trace itself");
  }
  CHECK(ReadFile(trace.path) == bytes);
  CheckRefused({"trace", "export", trace.path, "-o", "/nonexistent/x"}, 1, "/nonexistent/x");
  if (!std::filesystem::exists("/dev/full")) return;
  CheckRefused({"trace", "export", trace.path, "-o", "/dev/full"}, 1, "/dev/full");
  CheckRefused({"trace", "export", trace.path, "-o", "/dev/full"}, 1, "No space left");
}

TEST_CASE("a trace that was cut off within its last block is used as far as it goes") {
  const TempDir dir;
  const std::string path = (dir / "long.stk").string();
  REQUIRE(RunStoker({"trace", "synth", path, "-n", "500"}).exit_code == 0);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  const ProcessResult info = RunStoker({"trace", "info", path});
  CHECK(info.exit_code == 0);
  CHECK(Contains(info.out, "(cut off)"));
  const ProcessResult sim = RunStoker({"sim", path, "--policy", "lru", "--capacity", "10%"});
  CHECK(sim.exit_code == 0);
  CHECK(Contains(sim.out, "recording was cut off"));
}

TEST_CASE("trace synth refuses what it could not write, in one line") {
  const TempDir dir;
  const std::string path = (dir / "s.stk").string();
  const auto refused = [&](std::vector<std::string> options, const char* text) {
    options.insert(options.begin(), {"trace", "synth", path});
    CheckRefused(options, 1, text);
    CHECK(!std::filesystem::exists(path));
  };
  refused({"--layers", "1", "--experts", "65536", "--top-k", "44000", "-n", "1"}, "top-k = 44000");
  refused({"--layers", "1", "--experts", "65536", "--top-k", "65534", "-n", "1"}, "top-k = 65534");
  refused({"--layers", "4096", "--experts", "8192", "-n", "0"}, "experts = 8192");
  refused({"-n", "100000000"}, "make fewer tokens");
  for (const char* top_k : {"3", "4"}) {
    const ProcessResult r = RunStoker(
        {"trace", "synth", path, "--experts", "4", "--top-k", top_k, "--layers", "2", "-n", "3"});
    CAPTURE(r.err);
    CHECK(r.exit_code == 0);
  }
}

}  // namespace
}  // namespace stoker::test
