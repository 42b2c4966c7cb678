// Uses the stoker binary as its users do, on a small synthetic model.

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "numa/affinity.h"
#include "tests/runtime/cli/demo_model.h"
#include "tests/runtime/cli/process_checks.h"
#include "tests/runtime/cli/stoker_process.h"
#include "tests/support/catch.h"
#include "tests/support/golden_file.h"
#include "tests/support/near.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

using Json = nlohmann::json;
using Terminal = StokerProcess::Terminal;

TEST_CASE("run streams text to stdout and everything else to stderr") {
  const ProcessResult r =
      RunStoker({"run", Model(), "-p", "Hello", "-n", "12", "-s", "1", "-t", "1", "-c", "256"});
  CAPTURE(r.err);
  REQUIRE(r.exit_code == 0);
  CHECK_FALSE(r.out.empty());
  CHECK_FALSE(Contains(r.out, "stats:"));
  CHECK(Contains(r.err, "mode:"));
  CHECK(Contains(r.err, "stats: prompt"));
  CHECK(Contains(r.err, "minimax-01"));

  const ProcessResult again =
      RunStoker({"run", Model(), "-p", "Hello", "-n", "12", "-s", "1", "-t", "1", "-c", "256"});
  CHECK(again.out == r.out);
}

TEST_CASE("the prompt comes from stdin or a file, with the same answer") {
  const std::vector<std::string> base = {"run", Model(), "-n", "8", "--temp", "0", "-c", "256"};
  const auto with = [&](std::vector<std::string> more, const std::string& input) {
    more.insert(more.begin(), base.begin(), base.end());
    return RunStoker(more, input);
  };
  const TempDir dir;
  WriteFile(dir / "prompt", "Tell me\n");
  const ProcessResult argument = with({"-p", "Tell me"}, "");
  CHECK(argument.exit_code == 0);
  CHECK(with({}, "Tell me\n").out == argument.out);
  CHECK(with({"-f", (dir / "prompt").string()}, "").out == argument.out);
  CHECK(with({"-f", "-"}, "Tell me\n").out == argument.out);
  const ProcessResult empty = with({}, "");
  CHECK(empty.exit_code == 1);
  CHECK(Contains(empty.err, "the prompt is empty"));
}

TEST_CASE("an empty system prompt is none, not the template's own") {
  const auto prompt_tokens = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"run", Model(), "-p", "Hi", "-n", "1", "-c", "512"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult r = RunStoker(arguments);
    CAPTURE(r.err);
    REQUIRE(r.exit_code == 0);
    return std::stoi(r.err.substr(r.err.find("stats: prompt ") + 14));
  };
  const int own = prompt_tokens({});
  CHECK(prompt_tokens({"-sys", ""}) < own);
  CHECK(prompt_tokens({"-sys", ""}) < prompt_tokens({"-sys", "a"}));
}

TEST_CASE("a traced run replays to its live counters, and its trace converts") {
  const TempDir dir;
  const std::string trace = (dir / "run.trace").string();
  const std::vector<std::string> base = {"run",     Model(), "-p",      "Hello", "-n", "12",
                                         "-s",      "1",     "-c",      "256",   "-t", "1",
                                         "--trace", trace,   "--stats", "json"};
  for (const char* mode : {"paged", "resident", "mapped"}) {
    CAPTURE(mode);
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), {"--mode", mode});
    const ProcessResult run = RunStoker(arguments);
    CAPTURE(run.err);
    REQUIRE(run.exit_code == 0);
    const Json stats = Json::parse(run.err.substr(run.err.find("{\"prompt_tokens\"")));
    CHECK(stats["decode_steps"] == 11);
    const ProcessResult info = RunStoker({"trace", "info", trace});
    CHECK(info.exit_code == 0);
    CHECK(Contains(info.out, "8 layers x 32 experts, top-2"));
    const ProcessResult csv = RunStoker({"trace", "export", trace, "--to", "csv"});
    CHECK(csv.out.starts_with("time_us,kind,phase"));
    if (std::string(mode) != "paged") continue;
    const uint64_t hits =
        stats["prefill"]["hits"].get<uint64_t>() + stats["decode"]["hits"].get<uint64_t>();
    CHECK(stats["decode"]["pager_bytes"] <= stats["decode"]["process_read_bytes"]);
    const ProcessResult sim = RunStoker({"sim", trace, "--as-recorded", "--json"});
    CHECK(Json::parse(sim.out)["rows"][0]["total"]["hits"] == hits);
  }
  const ProcessResult made = RunStoker({"trace", "synth", trace, "-n", "20", "--layers", "4"});
  CHECK(made.exit_code == 0);
  CHECK(RunStoker({"sim", trace, "--policy", "forecast"}).exit_code == 0);
  CHECK(RunStoker({"trace", "exprt", trace}).exit_code == 2);
  CHECK(RunStoker({"trace", "synth", trace, "--seed", "-1"}).exit_code == 2);
}

TEST_CASE("errors are one line on stderr with the right code") {
  const TempDir directory;
  const std::string out = directory / "out";
  CheckRefused({"rnu"}, 2, "did you mean run?");
  CheckRefused({"run", "--tmep", "1"}, 2, "did you mean --temp?");
  CheckRefused({"run"}, 2, "MODEL");
  CheckRefused({"run", Model(), "--memory", "lots"}, 2, "not a size");
  CheckRefused({"run", Model(), "--top-p", "2"}, 2, "--top-p");
  for (const char* option : {"--temp", "--top-p", "--min-p"}) {
    CheckRefused({"run", Model(), "-p", "x", option, "nan"}, 2, "nan is not a number");
  }
  CheckRefused({"perplexity", Model(), "-f", "/nonexistent", "-c", "2"}, 2,
               "-c must be at least 3");
  CheckRefused({"bench", Model(), "-f", "/nonexistent"}, 1, "/nonexistent");
  CheckRefused({"logits", Model(), "--ids", "5000", "-o", out}, 1, "outside the vocabulary");
  CheckRefused({"run", "/nonexistent.gguf", "-p", "x"}, 1, "/nonexistent.gguf");
  CheckRefused({"run", Model(), "-f", "/nonexistent"}, 1, "/nonexistent");
  CheckRefused({"logits", Model(), "--ids", "1,x", "-o", out}, 2, "not a token id");
  CheckRefused({"synth", "/nonexistent/x.gguf", "--preset", "demo"}, 1, "/nonexistent");
  CheckRefused({"synth", out, "--type", "q4_k_n"}, 2, "did you mean q4_k_m?");
}

TEST_CASE("Ctrl-C stops the stream, prints the statistics and exits with 130") {
  StokerProcess process({"run", Model(), "-p", "Hello", "--raw", "-c", "100000", "-s", "3"},
                        Terminal::kNone);
  process.CloseInput();
  REQUIRE(process.WaitFor(" "));
  process.Signal(SIGINT);
  const ProcessResult r = process.Finish();
  CAPTURE(r.err);
  CHECK(r.exit_code == 130);
  CHECK(Contains(r.err, "stats: prompt"));
  CHECK(Contains(r.err, "stopped: interrupted"));
}

TEST_CASE("a reader that goes away ends the run quietly") {
  StokerProcess process({"run", Model(), "-p", "Hello", "-c", "100000", "-s", "3"},
                        Terminal::kNone);
  process.CloseInput();
  REQUIRE(process.WaitFor(" "));
  process.CloseOutput();
  const ProcessResult r = process.Finish();
  CAPTURE(r.err);
  CHECK(r.exit_code == 0);
  CHECK(Contains(r.err, "stats: prompt"));
}

TEST_CASE("a full disk behind stdout is an error") {
  if (!std::filesystem::exists("/dev/full")) return;
  const std::string command = std::string(std::getenv("STOKER_BINARY")) + " inspect " + Model() +
                              " > /dev/full 2> /dev/null";
  const int status = std::system(command.c_str());
  CHECK(WEXITSTATUS(status) == 1);
}

TEST_CASE("inspect describes the file") {
  const ProcessResult text = RunStoker({"inspect", Model(), "--tensors"});
  CHECK(text.exit_code == 0);
  CHECK(Contains(text.out, "lllllllS"));
  CHECK(Contains(text.out, "blk.7.attn_q.weight"));
  const ProcessResult r = RunStoker({"inspect", "-m", Model(), "--json"});
  REQUIRE(r.exit_code == 0);
  const Json json = Json::parse(r.out);
  CHECK(json["config"]["n_layers"] == 8);
  CHECK(json["config"]["attention_pattern"] == "lllllllS");
  CHECK(json["tensors"].size() > 80);
  uint64_t bytes = 0;
  for (const Json& tensor : json["tensors"]) bytes += tensor["bytes"].get<uint64_t>();
  CHECK(json["tensor_bytes"] == bytes);
  CHECK(json["files"][0]["bytes"].get<uint64_t>() == std::filesystem::file_size(Model()));
}

TEST_CASE("keys and values are rounded as asked, and barely matter") {
  const TempDir dir;
  const auto run = [&](const std::string& name, const std::vector<std::string>& options) {
    std::vector<std::string> arguments = {"logits", Model(), "--ids", "5,6,7,8,9,10,11,12",
                                          "-o",     (dir / name).string()};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const ProcessResult r = RunStoker(arguments);
    CAPTURE(r.err);
    REQUIRE(r.exit_code == 0);
    return testing::ReadGolden(dir / name, "logits").f32;
  };
  const auto plain = run("plain", {"-ctk", "f32", "-ctv", "f32"});
  for (const auto& options : std::vector<std::vector<std::string>>{
           {"-ctk", "f16", "-ctv", "f32"}, {"-ctk", "f32", "-ctv", "f16"}, {"-ctk", "f16"}}) {
    const auto rounded = run("rounded", options);
    CAPTURE(options);
    const double error = test::RelativeError(rounded, plain);
    CHECK(error > 0.0);
    CHECK(error < 2e-2);
  }
  const ProcessResult wrong = RunStoker({"logits", Model(), "--ids", "5", "-ctk", "q8_0"});
  CHECK(wrong.exit_code == 2);
  CHECK(wrong.err.find("f16") != std::string::npos);
}

TEST_CASE("logits writes what was asked for, the same for every chunk length") {
  const TempDir dir;
  const auto run = [&](const std::string& name, const std::string& chunk) {
    const std::filesystem::path out = dir / name;
    const ProcessResult r =
        RunStoker({"logits", Model(), "--ids", "5,6,7,8,9,10,11,12", "--greedy", "3", "--layers",
                   "--exact", "-ub", chunk, "-o", out.string()});
    CAPTURE(r.err);
    REQUIRE(r.exit_code == 0);
    CHECK(r.out.empty());
    return out;
  };
  const auto whole = run("a", "512");
  using testing::ReadGolden;
  CHECK(ReadGolden(whole, "logits").shape == std::vector<int64_t>{8, 1024});
  CHECK(ReadGolden(whole, "layer_out").shape == std::vector<int64_t>{8, 8, 128});
  CHECK(ReadGolden(whole, "router_ids").shape == std::vector<int64_t>{8, 8, 2});
  CHECK(ReadGolden(whole, "router_weights").shape == std::vector<int64_t>{8, 8, 2});
  CHECK(ReadGolden(whole, "decode_logits").shape == std::vector<int64_t>{3, 1024});
  const auto ids = ReadGolden(whole, "decode_ids");
  CHECK(ids.shape == std::vector<int64_t>{3});

  // The first greedy id is the likeliest after the prompt.
  const auto logits = ReadGolden(whole, "logits").f32;
  const auto last = logits.end() - 1024;
  CHECK(ids.i32[0] == std::max_element(last, logits.end()) - last);

  const auto pieces = ReadGolden(run("b", "3"), "logits").f32;
  CHECK(test::RelativeError(pieces, logits) < 1e-4);
}

TEST_CASE("bench reports llama-bench's keys and its own") {
  const ProcessResult r = RunStoker(
      {"bench", Model(), "-p", "16", "-n", "4", "-d", "0,8", "-r", "2", "-o", "json", "-t", "1"},
      "", 240);
  CAPTURE(r.err);
  REQUIRE(r.exit_code == 0);
  const Json rows = Json::parse(r.out);
  REQUIRE(rows.size() == 4);
  for (const char* key : {"n_prompt",
                          "n_gen",
                          "n_depth",
                          "avg_ts",
                          "stddev_ts",
                          "samples_ts",
                          "samples_ns",
                          "n_threads",
                          "model_filename",
                          "model_size",
                          "mode",
                          "isa",
                          "read_ceiling_bytes_per_s",
                          "weight_bytes_per_token",
                          "roof_fraction",
                          "disk_bytes_per_token",
                          "hit_rate",
                          "disk_ceiling_bytes_per_s",
                          "stall_fraction",
                          "major_faults_per_token"}) {
    CAPTURE(key);
    CHECK(rows[0].contains(key));
  }
  CHECK(rows[0]["n_prompt"] == 16);
  CHECK(rows[0]["prompt"] == "text");
  CHECK(rows[1]["n_gen"] == 4);
  CHECK(rows[3]["n_depth"] == 8);
  CHECK(rows[1]["samples_ts"].size() == 2);
  CHECK(rows[1]["roof_fraction"].get<double>() > 0);
  CHECK(rows[0]["roof_fraction"].is_null());

  const ProcessResult md =
      RunStoker({"bench", Model(), "-p", "8", "-n", "0", "-r", "1", "-t", "1"});
  CHECK(Contains(md.out, "pp8"));
  CHECK_FALSE(Contains(md.out, "tg"));

  const ProcessResult random = RunStoker({"bench", Model(), "-p", "8", "-n", "0", "-r", "1", "-t",
                                          "1", "--random-tokens", "-o", "json"});
  REQUIRE(random.exit_code == 0);
  CHECK(Json::parse(random.out)[0]["prompt"] == "random");
}

TEST_CASE("perplexity against its own base diverges by nothing") {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 120; ++i) text += "the road climbs past the old house " + std::to_string(i);
  WriteFile(dir / "text", text);
  const std::string file = (dir / "text").string(), base = (dir / "base").string();
  const ProcessResult plain = RunStoker(
      {"perplexity", Model(), "-f", file, "-c", "64", "--chunks", "2", "--save-base", base});
  CAPTURE(plain.err);
  REQUIRE(plain.exit_code == 0);
  CHECK(Contains(plain.out, "Final estimate: PPL = "));
  const ProcessResult kl = RunStoker({"perplexity", Model(), "--kl-base", base});
  CAPTURE(kl.err);
  REQUIRE(kl.exit_code == 0);
  CHECK(Contains(kl.out, "Mean    KLD:"));
  CHECK(Contains(kl.out, "Same top p: 100.000"));
  CHECK(Contains(kl.out, "Mean PPL(Q)/PPL(base)         :   1.000000"));
  CHECK(RunStoker({"perplexity", Model(), "--kl-base", base, "-c", "64"}).exit_code == 0);
  const ProcessResult other = RunStoker({"perplexity", Model(), "--kl-base", base, "-c", "77"});
  CHECK(other.exit_code == 2);
  CHECK(Contains(other.err, "chunks of 64 tokens"));
  const ProcessResult wrong = RunStoker({"perplexity", Model(), "--kl-base", file});
  CHECK(wrong.exit_code == 1);
}

TEST_CASE("chat from a pipe answers each line") {
  const TempDir dir;
  const std::string save = (dir / "talk.json").string();
  const ProcessResult r = RunStoker({"chat", Model(), "-n", "4", "-s", "1", "-c", "1000"},
                                    "Hello\nAnd now?\n/save " + save + "\n/stats\n/nonsense\n");
  CAPTURE(r.err);
  CHECK(r.exit_code == 0);
  CHECK(Contains(r.err, "stats: prompt"));
  CHECK(Contains(r.err, "unknown command /nonsense"));
  const Json talk = Json::parse(ReadFile(save));
  REQUIRE(talk.size() == 4);
  CHECK(talk[2]["content"] == "And now?");
  // The second prompt stands on the first answer's state.
  CHECK_FALSE(Contains(r.err, "(0 reused)"));
}

TEST_CASE("a piped chat ends at Ctrl-C, and when its output cannot be written") {
  StokerProcess chat({"chat", Model(), "-s", "1", "-c", "100000"}, Terminal::kNone);
  chat.Send("Tell me everything\n");
  REQUIRE(chat.WaitFor(" "));
  chat.Signal(SIGINT);
  CHECK(chat.Finish().exit_code == 130);

  if (!std::filesystem::exists("/dev/full")) return;
  const std::string command = "printf 'Hello\\nAgain\\n' | " +
                              std::string(std::getenv("STOKER_BINARY")) + " chat " + Model() +
                              " -n 4 -s 1 -c 1000 > /dev/full 2> /dev/null";
  const int status = std::system(command.c_str());
  CHECK(WEXITSTATUS(status) == 1);
}

TEST_CASE("SIGTERM ends a chat at its prompt and in an answer") {
  ::setenv("TERM", "xterm", 1);
  for (const bool answering : {false, true}) {
    CAPTURE(answering);
    StokerProcess chat({"chat", Model(), "-s", "1", "-c", "20000"}, Terminal::kPty);
    REQUIRE(chat.WaitFor("> "));
    if (answering) {
      chat.Send("Tell me everything\n");
      ::usleep(500'000);
    }
    chat.Signal(SIGTERM);
    CHECK(chat.Finish().exit_code == 130);
  }
}

TEST_CASE("chat: a file that cannot be saved to is one line, and the chat goes on") {
  const ProcessResult r = RunStoker({"chat", Model(), "-n", "4", "-s", "1", "-c", "1000"},
                                    "/save /nonexistent/talk.json\nHello\n/stats\n");
  CAPTURE(r.err);
  CHECK(r.exit_code == 0);
  CHECK(Contains(r.err, "/nonexistent/talk.json"));
  CHECK(Contains(r.err, "stats: prompt"));
}

TEST_CASE("chat: nothing is saved over the model or the trace, and the chat goes on") {
  const TempDir dir;
  const std::string link = (dir / "link.gguf").string(), trace = (dir / "trace").string();
  std::filesystem::create_symlink(Model(), link);
  const std::string before = ReadFile(Model());
  const ProcessResult r =
      RunStoker({"chat", Model(), "-c", "1000", "--trace", trace},
                "/save " + Model() + "\n/save " + link + "\n/save " + trace + "\n/stats\n");
  CAPTURE(r.err);
  CHECK(r.exit_code == 0);
  CHECK(Contains(r.err, "/save " + Model() + " is a file of the model"));
  CHECK(Contains(r.err, "/save " + link + " is a file of the model"));
  CHECK(Contains(r.err, "--trace and /save would both write"));
  CHECK(Contains(r.err, "no answer yet"));
  CHECK(ReadFile(Model()) == before);
  CHECK(std::filesystem::is_symlink(link));
}

TEST_CASE("chat: a message beyond the context ends a piped chat, a terminal's goes on") {
  const ProcessResult piped = RunStoker({"chat", Model(), "-c", "16"}, "Hello\n/stats\n");
  CAPTURE(piped.err);
  CHECK(piped.exit_code == 1);
  CHECK(Contains(piped.err, "larger -c\n"));
  CHECK_FALSE(Contains(piped.err, "no answer yet"));

  ::setenv("TERM", "xterm", 1);
  StokerProcess chat({"chat", Model(), "-c", "16"}, Terminal::kPty);
  REQUIRE(chat.WaitFor("> "));
  chat.Send("Hello\n");
  REQUIRE(chat.WaitFor("larger -c"));
  chat.Send("/stats\n");
  REQUIRE(chat.WaitFor("of 16 tokens\r\n> "));
  chat.Send("\x04");
  const ProcessResult r = chat.Finish();
  CAPTURE(r.out);
  CHECK(r.exit_code == 0);
  CHECK(Contains(r.out, "no answer yet"));
}

TEST_CASE("chat on a terminal: prompt, commands, Ctrl-C stops the answer, Ctrl-D leaves") {
  ::setenv("TERM", "xterm", 1);
  StokerProcess chat({"chat", Model(), "-s", "2", "-c", "20000"}, Terminal::kPty);
  REQUIRE(chat.WaitFor("> "));
  chat.Send("/help\n");
  REQUIRE(chat.WaitFor("/system TEXT"));
  chat.Send("half a line\x03");  // Ctrl-C at the prompt drops the line
  REQUIRE(chat.WaitFor("^C"));
  chat.Send("/system Be brief.\n");
  REQUIRE(chat.WaitFor("system prompt: Be brief."));
  chat.Send("Tell me everything\n");
  REQUIRE(chat.WaitFor("Tell me everything"));
  ::usleep(100'000);  // into the answer, which this model ends by itself after some 2000 tokens
  chat.Send("\x03");
  chat.Send("/stats\n");
  REQUIRE(chat.WaitFor("stats: prompt"));
  REQUIRE(chat.WaitFor("stopped: "));
  // Typed before the prompt is there, the end of input would be the terminal's, and lost.
  REQUIRE(chat.WaitFor("of 20000 tokens\r\n> "));
  chat.Send("\x04");
  const ProcessResult r = chat.Finish();
  CAPTURE(r.out);
  CHECK(r.exit_code == 0);
  const std::filesystem::path history =
      std::filesystem::path(std::getenv("XDG_STATE_HOME")) / "stoker" / "chat_history";
  CHECK(Contains(ReadFile(history), "Tell"));
}

TEST_CASE("probe describes the machine") {
  const ProcessResult r = RunStoker({"probe", "--json", "--quick"});
  REQUIRE(r.exit_code == 0);
  const Json json = Json::parse(r.out);
  CHECK(json["topology"]["n_cpus"].get<int>() >= 1);
  CHECK(json["findings"].is_array());
  for (const char* key : {"cpu_quota", "cpu_governor", "allocator", "kernel_settings"}) {
    CAPTURE(key);
    CHECK(json.contains(key));
  }
  CHECK(json["memory"]["may_lock_any"].is_boolean());
}

TEST_CASE("virtual NUMA nodes give the same bits, resident and paged") {
  const TempDir dir;
  const auto logits = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "logits", Model(), "--ids", "5,9,700,3,41,12,8,1000,77", "--greedy", "3",
        "-ub",    "8",     "-o",    (dir / name).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult r = RunStoker(arguments);
    CAPTURE(name, r.err);
    REQUIRE(r.exit_code == 0);
    return r.err;
  };
  logits("one", {"--numa", "off"});
  const std::string expected = ReadFile(dir / "one");
  // A core for each virtual node: a machine with one core cannot try.
  if (ProcessCpus().size() < 2) return;
  for (const char* how : {"virtual:2", "virtual:3,1"}) {
    CAPTURE(how);
    const std::string err = logits("two", {"--numa", how});
    CHECK(Contains(err, "numa: shard over 2 nodes"));
    CHECK(ReadFile(dir / "two") == expected);
    const std::string paged =
        logits("paged", {"--numa", how, "--mode", "paged", "--memory", "160MiB"});
    CHECK(Contains(paged, "mode: paged"));
    CHECK(ReadFile(dir / "paged") == expected);
  }
  CHECK(RunStoker({"logits", Model(), "--ids", "1", "-o", "x", "--numa", "sometimes"}).exit_code ==
        2);
  CHECK(RunStoker({"logits", Model(), "--ids", "1", "-o", "x", "--numa", "node:99"}).exit_code ==
        1);
}

TEST_CASE("inspect --placement shows every part, on a machine described from outside") {
  ::setenv("HWLOC_SYNTHETIC", "node:2(memory=8GB) core:4 pu:1", 1);
  const ProcessResult text = RunStoker({"inspect", Model(), "--placement"});
  const ProcessResult json = RunStoker({"inspect", Model(), "--placement", "--json"});
  ::unsetenv("HWLOC_SYNTHETIC");
  REQUIRE(text.exit_code == 0);
  CHECK(Contains(text.out, "numa: shard"));
  CHECK(Contains(text.out, "expert down"));
  CHECK(Contains(text.out, "2 MiB stripes"));
  REQUIRE(json.exit_code == 0);
  const Json plan = Json::parse(json.out);
  CHECK(plan["nodes"].size() == 2);
  CHECK(plan["budget"][0]["bytes"].get<uint64_t>() > 0);
  CHECK(plan["cross_node_bytes_per_token"].get<double>() > 0);
}

TEST_CASE("bench --numa-model predicts without loading") {
  const TempDir dir;
  WriteFile(dir / "two.txt", "200 80\n80 200\n");
  const ProcessResult r =
      RunStoker({"bench", Model(), "--numa-model", (dir / "two.txt").string(), "-o", "json"});
  CAPTURE(r.err);
  REQUIRE(r.exit_code == 0);
  CHECK(Json::parse(r.out).size() == 3);
  CHECK(RunStoker({"bench", Model(), "--numa-model", "/nowhere"}).exit_code == 1);
}

}  // namespace
}  // namespace stoker::test
