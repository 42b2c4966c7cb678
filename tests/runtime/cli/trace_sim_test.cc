// `stoker trace` and `stoker sim` as their users call them, on made-up traces.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "experts/trace_io.h"
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

// Of M1's shape: long enough to be interrupted in.
std::string LongTrace(const TempDir& dir, const std::string& n_tokens) {
  const std::string path = (dir / "long.stk").string();
  const ProcessResult r = RunStoker({"trace", "synth", path, "-n", n_tokens});
  INFO(r.err);
  REQUIRE(r.exit_code == 0);
  return path;
}

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

TEST_CASE("policies and capacities that cannot be are usage errors, whatever the trace is") {
  const std::string none = "/nonexistent/t.stk";
  const std::vector<std::pair<std::string, std::string>> policies = {
      {"nosuch:x=/y", "unknown policy 'nosuch'"},
      {"lru:foo=/y", "unknown parameter 'foo'"},
      {"static", "needs from=FILE"},
      {"static:nosuch", "is not key=value"},
      {"static:from=/y,foo=1", "unknown parameter 'foo'"},
      {"belady:passes=0", "passes=0 is not a whole number"}};
  for (const auto& [spec, text] : policies) CheckRefused({"sim", none, "--policy", spec}, 2, text);
  for (const char* capacity : {"abc", "0", "0%", "101%", "1.5"}) {
    CheckRefused({"sim", none, "--capacity", capacity}, 2,
                 "capacity '" + std::string(capacity) + "'");
  }
  // These fit some model; that their files are missing is found later.
  for (const char* spec : {"static:from=/nonexistent/f", "./nosuch.so", "./nosuch.so:foo=/y"}) {
    CheckRefused({"sim", none, "--policy", spec, "--capacity", "0.1%"}, 1, none);
  }
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
    CheckRefused(options, 2, text);
    CHECK(!std::filesystem::exists(path));
  };
  refused({"--layers", "1", "--experts", "65536", "--top-k", "44000", "-n", "1"}, "top-k = 44000");
  refused({"--layers", "1", "--experts", "65536", "--top-k", "65534", "-n", "1"}, "top-k = 65534");
  refused({"--layers", "4096", "--experts", "8192", "-n", "0"}, "experts = 8192");
  refused({"-n", "100000000"}, "make fewer tokens");
  refused({"--layers", "010"}, "010 is not a whole number");
  refused({"--layers", "-1"}, "-1 is not a whole number");
  refused({"--top-k", "0x4"}, "0x4 is not a whole number");
  refused({"--top-k", "99"}, "top-k = 99");
  refused({"--zipf", "nan"}, "zipf");
  refused({"--expert-bytes", "0"}, "expert bytes = 0");
  CheckRefused({"trace", "synth", path, "--zipf="}, 2, "--zipf: has no value");
  CheckRefused({"trace", "synth", path, "--locality", ""}, 2, "--locality: has no value");
  for (const char* top_k : {"3", "4"}) {
    const ProcessResult r = RunStoker(
        {"trace", "synth", path, "--experts", "4", "--top-k", top_k, "--layers", "2", "-n", "3"});
    CAPTURE(r.err);
    CHECK(r.exit_code == 0);
  }
}

TEST_CASE("control characters in a trace's header are shown, not sent to the terminal") {
  const TempDir dir;
  const std::string path = (dir / "t.stk").string();
  Trace trace = TraceFromSynth({.n_layers = 2, .n_experts = 4, .decode_tokens = 3});
  trace.header.model = "m\x1b[2J";
  trace.header.types = "t\x1b[2J";
  trace.header.policy = "p\x1b[2J";
  trace.header.capacity = 4;
  SaveTrace(trace, path);
  const ProcessResult info = RunStoker({"trace", "info", path});
  const ProcessResult sim = RunStoker({"sim", path, "--capacity", "4"});
  for (const ProcessResult* r : {&info, &sim}) {
    CHECK(r->exit_code == 0);
    CHECK(!Contains(r->out, "\x1b"));
    CHECK(Contains(r->out, "m\\x1b[2J"));
  }
  CHECK(Contains(info.out, "t\\x1b[2J"));
  CHECK(Contains(info.out, "p\\x1b[2J"));
}

TEST_CASE("a signal ends an export that waits for its reader, a hangup not under nohup") {
  const TempDir dir;
  const std::string path = LongTrace(dir, "500");
  const auto exit_code = [&path](int number) {
    StokerProcess process({"trace", "export", path}, StokerProcess::Terminal::kNone);
    REQUIRE(process.WaitFor("time_us"));
    process.Signal(number);
    return process.Finish().exit_code;
  };
  ::signal(SIGHUP, SIG_DFL);  // Whoever runs the tests may have it ignored.
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    CAPTURE(number);
    CHECK(exit_code(number) == 130);
  }
  ::signal(SIGHUP, SIG_IGN);
  const int ignored = exit_code(SIGHUP);
  ::signal(SIGHUP, SIG_DFL);
  CHECK(ignored == 0);
}

TEST_CASE("what is interrupted leaves no file") {
  const TempDir dir;
  const std::string path = LongTrace(dir, "4000");
  const std::string out = (dir / "out").string();
  const auto n_files = [&dir] {
    return std::distance(std::filesystem::directory_iterator(dir.path()),
                         std::filesystem::directory_iterator());
  };
  const auto check_interrupted = [](StokerProcess& process) {
    process.Signal(SIGINT);
    CHECK(process.Finish().exit_code == 130);
  };
  {
    StokerProcess writing({"trace", "export", path, "--to", "jsonl", "-o", out},
                          StokerProcess::Terminal::kNone);
    for (int i = 0; i < 6000 && n_files() == 1; ++i) ::usleep(5'000);
    check_interrupted(writing);
  }
  const std::vector<std::vector<std::string>> commands = {{"trace", "synth", out, "-n", "50000"},
                                                          {"sim", path}};
  for (const std::vector<std::string>& command : commands) {
    CAPTURE(command);
    StokerProcess computing(command, StokerProcess::Terminal::kNone);
    ::usleep(100'000);
    check_interrupted(computing);
  }
  CHECK(n_files() == 1);
}

TEST_CASE("an export waits for its reader where stdout does not block either") {
  const MadeUpTrace trace;
  std::array<int, 2> out;
  REQUIRE(::pipe2(out.data(), O_CLOEXEC) == 0);
  REQUIRE(::fcntl(out[1], F_SETPIPE_SZ, 4096) > 0);
  REQUIRE(::fcntl(out[1], F_SETFL, O_NONBLOCK) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const char* binary = std::getenv("STOKER_BINARY");
    ::dup2(out[1], STDOUT_FILENO);
    ::execl(binary, binary, "trace", "export", trace.path.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  REQUIRE(child > 0);
  ::close(out[1]);
  ::usleep(300'000);  // The pipe is full by then.
  std::string text;
  std::array<char, 4096> buffer;
  ssize_t got = 0;
  while ((got = ::read(out[0], buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(got));
  }
  ::close(out[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(text == RunStoker({"trace", "export", trace.path}).out);
}

}  // namespace
}  // namespace stoker::test
