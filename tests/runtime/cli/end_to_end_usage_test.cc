// What the stoker binary refuses, and what it says of options that change nothing: before it works
// and before it writes.

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/runtime/cli/demo_model.h"
#include "tests/runtime/cli/process_checks.h"
#include "tests/runtime/cli/stoker_process.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

namespace fs = std::filesystem;

// The exit code of a shell's command, in which STOKER stands for the binary.
int ExitCodeOf(std::string command) {
  command.replace(command.find("STOKER"), 6, std::getenv("STOKER_BINARY"));
  const int status = std::system(command.c_str());
  return WEXITSTATUS(status);
}

TEST_CASE("values that cannot be are usage errors") {
  const TempDir dir;
  const std::string out = (dir / "x.gguf").string();
  CheckRefused({"run", Model(), "--policy", "lur", "-p", "x"}, 2, "lru");
  CheckRefused({"run", Model(), "--policy", "lru:zz=3", "-p", "x"}, 2, "zz");
  CheckRefused({"run", Model(), "--policy", "lfu:half_life=0", "-p", "x"}, 2, "half_life");
  CheckRefused({"run", Model(), "-p", "x", "-n", "010"}, 2, "010 is not a whole number");
  CheckRefused({"run", Model(), "-p", "x", "-c", "0x10"}, 2, "0x10 is not a whole number");
  for (const char* command : {"run", "bench", "synth"}) {
    CheckRefused({command, out, "--seed", "99999999999999999999"}, 2, "--seed");
  }
  CheckRefused({"perplexity", Model(), "-f", "x", "--chunks", "0"}, 2, "--chunks");
  CheckRefused({"perplexity", Model(), "-f", "x", "--chunks", "-7"}, 2, "--chunks");
  CheckRefused({"synth", out, "--preset", "demo", "--layers", "1"}, 2, "--layers");
  CheckRefused({"synth", out, "--preset", "demo", "--hidden", "100"}, 2, "100 elements");
  CheckRefused({"synth", out, "--preset", "demo", "--tensor-type", "nosuch=q6_k"}, 2, "nosuch");
  CHECK(fs::is_empty(dir.path()));
}

TEST_CASE("arguments nobody asked for are shown in part, with what may be meant") {
  CheckRefused({"run", Model(), "hello", "world"}, 2, "\"hello\"; give the prompt as -p");
  CheckRefused({"run", Model(), std::string(5000, 'x')}, 2,
               '"' + std::string(40, 'x') + "...\"; give");
  CheckRefused({"inspect", Model(), "more"}, 2, "\"more\"; see --help");
}

TEST_CASE("options that would change nothing are refused") {
  CheckRefused({"run", Model(), "-p", "x", "--raw", "-sys", "y"}, 2, "--system-prompt");
  CheckRefused({"run", Model(), "-p", "x", "--raw", "--chat-template", "vendor"}, 2,
               "--chat-template");
  CheckRefused({"run", Model(), "-p", "x", "--mode", "mapped", "--io", "uring"}, 2, "--io uring");
  CheckRefused({"logits", Model(), "--ids", "1,2,3", "-o", "x", "-c", "2"}, 2, "3 positions");
  CheckRefused({"inspect", Model(), "--policy", "bogus"}, 2, "unknown policy");
  CheckRefused({"inspect", Model(), "--placement", "--tensors"}, 2, "--tensors");
  CheckRefused({"probe", "--quick", "--io", "pread"}, 2, "--disk");
  CHECK(RunStoker({"inspect", Model(), "-c", "64", "--exact"}).exit_code == 0);
}

TEST_CASE("options without effect in the mode that runs are named") {
  const auto notes = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"run", Model(), "-p", "x", "-n", "1", "-c", "256"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult r = RunStoker(arguments);
    CAPTURE(arguments, r.err);
    CHECK(r.exit_code == 0);
    return r.err;
  };
  CHECK(Contains(notes({"--mode", "mapped", "--policy", "sieve", "--prefetch", "on"}),
                 "note: --policy and --prefetch have no effect in mode mapped\n"));
  CHECK(Contains(notes({"--mode", "resident", "--policy", "sieve"}),
                 "note: --policy has no effect in mode resident\n"));
  CHECK_FALSE(Contains(notes({"--mode", "paged", "--policy", "sieve"}), "no effect"));
  CHECK_FALSE(Contains(notes({"--mode", "mapped"}), "no effect"));
}

TEST_CASE("a context beyond what the model is made for is told") {
  const TempDir dir;
  const std::string model = (dir / "short.gguf").string();
  const ProcessResult made =
      RunStoker({"synth", model, "--preset", "demo", "--hidden", "128", "--expert-hidden", "128",
                 "--vocab", "1024", "--layers", "2", "--context", "64"});
  REQUIRE(made.exit_code == 0);
  const std::vector<std::string> base = {"run", model, "-p", "x", "--raw", "-n", "1", "-c"};
  for (const char* n_ctx : {"64", "65"}) {
    CAPTURE(n_ctx);
    std::vector<std::string> arguments = base;
    arguments.emplace_back(n_ctx);
    const ProcessResult r = RunStoker(arguments);
    CHECK(r.exit_code == 0);
    CHECK(Contains(r.err, "made for at most 64") == (std::string(n_ctx) == "65"));
  }
}

TEST_CASE("no output takes the place of the model, whatever name leads there") {
  const TempDir dir;
  const std::string link = (dir / "link.gguf").string(), mirror = (dir / "mirror").string();
  fs::create_symlink(Model(), link);
  fs::create_directory(mirror);
  const std::string copy = mirror + "/" + fs::path(Model()).filename().string();
  fs::copy_file(Model(), copy);
  const std::string before = ReadFile(Model());
  const std::string reason = "is a file of the model";
  CheckRefused({"run", Model(), "-p", "x", "--trace", Model()}, 2, reason);
  CheckRefused({"logits", Model(), "--ids", "1", "-o", Model()}, 2, reason);
  CheckRefused({"logits", Model(), "--ids", "1", "-o", link}, 2, reason);
  CheckRefused({"logits", link, "--ids", "1", "-o", Model()}, 2, reason);
  CheckRefused({"logits", Model(), "--ids", "1", "--mirror", mirror, "-o", copy}, 2, reason);
  CheckRefused({"perplexity", Model(), "-f", "-", "--save-base", link}, 2, reason);
  CHECK(ReadFile(Model()) == before);
  CHECK(ReadFile(copy) == before);
  CHECK(fs::is_symlink(link));
}

TEST_CASE("no output takes the place of what lies beside the weights and is read with them") {
  const TempDir dir;
  TinyCheckpoint().Write(dir.path());
  const std::string model = dir.path().string();
  for (const char* name : {"config.json", "model.safetensors.index.json", "tokenizer.json",
                           "tokenizer_config.json", "model-00000-of-00002.safetensors"}) {
    const std::string file = (dir / name).string();
    if (!fs::exists(file)) WriteFile(file, "{}");
    const std::string before = ReadFile(file);
    CheckRefused({"logits", model, "--ids", "1", "-o", file}, 2, "is a file of the model");
    CHECK(ReadFile(file) == before);
  }
}

TEST_CASE("two outputs are not one file, whatever names lead there, nor one that is read") {
  const TempDir dir;
  const std::string out = (dir / "out").string(), link = (dir / "link").string();
  const std::string text = (dir / "text").string(), base = (dir / "base").string();
  fs::create_symlink("out", link);
  WriteFile(text, "the road climbs past the old house, and past the new one too");
  WriteFile(dir / "ids", "1");
  const std::string both = "would both write";
  for (const std::string& same :
       {out, link, (dir / "." / "out").string(), fs::relative(dir / "out").string()}) {
    CheckRefused({"logits", Model(), "--ids", "1", "-o", out, "--trace", same}, 2, both);
    CheckRefused({"perplexity", Model(), "-f", text, "--save-base", same, "--trace", out}, 2, both);
  }
  CHECK_FALSE(fs::exists(out));
  WriteFile(out, "older");
  CheckRefused({"logits", Model(), "--ids", "1", "-o", out, "--trace", link}, 2, both);
  CHECK(ReadFile(out) == "older");

  const ProcessResult saved = RunStoker(
      {"perplexity", Model(), "-f", text, "-c", "4", "--chunks", "1", "--save-base", base});
  CAPTURE(saved.err);
  REQUIRE(saved.exit_code == 0);
  const std::string before = ReadFile(base);
  CheckRefused({"perplexity", Model(), "--kl-base", base, "--trace", base}, 2, "--kl-base reads");
  CHECK(ReadFile(base) == before);
  const std::string words = ReadFile(text);
  CheckRefused({"perplexity", Model(), "-f", text, "--save-base", text}, 2, "-f reads");
  CheckRefused({"run", Model(), "-f", text, "--trace", text}, 2, "-f reads");
  CheckRefused({"bench", Model(), "-f", text, "--trace", text}, 2, "-f reads");
  CHECK(ReadFile(text) == words);
  const std::string ids = (dir / "ids").string();
  CheckRefused({"logits", Model(), "--ids", "@" + ids, "-o", ids}, 2, "--ids reads");

  const ProcessResult nowhere =
      RunStoker({"logits", Model(), "--ids", "1", "-o", "/dev/null", "--trace", "/dev/null"});
  CAPTURE(nowhere.err);
  CHECK(nowhere.exit_code == 0);
}

TEST_CASE("outputs that cannot be are refused before anything is loaded") {
  const TempDir dir;
  const std::string directory = dir.path().string();
  for (const std::string& path : {std::string("/nonexistent/out"), directory}) {
    CheckRefused({"logits", Model(), "--ids", "1", "-o", path}, 1, path);
    CheckRefused({"perplexity", Model(), "-f", "-", "--save-base", path}, 1, path);
    CheckRefused({"synth", path, "--preset", "demo"}, 1, path);
  }
  CheckRefused({"probe", "--disk", "/nonexistent"}, 1, "/nonexistent");
}

TEST_CASE("outputs go where links and devices lead") {
  const TempDir dir;
  const auto logits = [](const fs::path& out) {
    const ProcessResult r = RunStoker({"logits", Model(), "--ids", "5,6", "-o", out.string()});
    CAPTURE(r.err);
    CHECK(r.exit_code == 0);
  };
  fs::create_symlink("file", dir / "link");
  fs::create_symlink("/dev/null", dir / "null");
  fs::create_symlink("model.gguf", dir / "link.gguf");
  logits(dir / "plain");
  logits(dir / "link");
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(ReadFile(dir / "file") == ReadFile(dir / "plain"));
  logits(dir / "null");
  CHECK(fs::is_symlink(dir / "null"));
  CHECK(fs::is_character_file("/dev/null"));
  const ProcessResult made =
      RunStoker({"synth", (dir / "link.gguf").string(), "--preset", "demo", "--layers", "2"});
  CHECK(made.exit_code == 0);
  CHECK(fs::is_symlink(dir / "link.gguf"));
  CHECK(RunStoker({"inspect", (dir / "model.gguf").string()}).exit_code == 0);
}

TEST_CASE("help and version that cannot be written, and input that cannot be read, are errors") {
  CHECK(ExitCodeOf("STOKER chat " + Model() + " < / > /dev/null 2> /dev/null") == 1);
  if (!fs::exists("/dev/full")) return;
  for (const char* arguments : {"--help", "--version", "run --help"}) {
    CAPTURE(arguments);
    CHECK(ExitCodeOf("STOKER " + std::string(arguments) + " > /dev/full 2> /dev/null") == 1);
  }
}

}  // namespace
}  // namespace stoker::test
