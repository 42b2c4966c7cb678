#include "runtime/cli/common_options.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <random>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "experts/cache_policy.h"
#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/model_summary.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/cli/progress.h"

namespace stoker {
namespace {

// CLI::Range lets NaN through, since no comparison with it is true.
std::string RefuseNan(const std::string& text) {
  return std::isnan(std::strtof(text.c_str(), nullptr)) ? text + " is not a number" : "";
}

// The spec with a file that cannot be in place of the one that `static` reads, which fits one
// model's shape only.
std::string WithoutFile(std::string spec) {
  for (const std::string_view key : {":from=", ",from="}) {
    if (const size_t at = spec.find(key); at != spec.npos) {
      const size_t begin = at + key.size();
      const size_t end = std::min(spec.find(',', begin), spec.size());
      if (begin < end) spec.replace(begin, end - begin, "/dev/null/none");
      return spec;
    }
  }
  return spec;
}

// What was asked for and has no part in how the model runs.
void PrintUnused(const Engine& engine) {
  const EngineOptions& options = engine.options();
  std::vector<std::string_view> unused;
  if (engine.mode() != MemoryMode::kPaged) {
    if (options.policy != "auto") unused.push_back("--policy");
    if (options.prefetch != PrefetchMode::kAuto) unused.push_back("--prefetch");
  }
  if (engine.mode() == MemoryMode::kMapped && !options.mirror_dirs.empty()) {
    unused.push_back("--mirror");
  }
  if (!unused.empty()) {
    PrintNote(fmt::format("note: {} {} no effect in mode {}", fmt::join(unused, " and "),
                          unused.size() == 1 ? "has" : "have", MemoryModeName(engine.mode())));
  }
  if (options.n_ctx > engine.config().max_position) {
    PrintNote(fmt::format("note: a context of {} tokens, and the model is made for at most {}",
                          options.n_ctx, engine.config().max_position));
  }
}

}  // namespace

void CheckPolicy(const std::string& spec) {
  if (IsPluginSpec(spec)) return;
  const bool reads_file = spec.substr(0, spec.find(':')) == "static";
  PolicyConfig any;
  any.n_layers = 2;
  any.n_experts = 4;
  any.top_k = 2;
  any.capacity = any.n_entries();
  try {
    MakePolicy(reads_file ? WithoutFile(spec) : spec, any);
  } catch (const std::system_error&) {
    // Of that file; the parameters were looked at before.
  } catch (const std::runtime_error& error) {
    throw UsageError(fmt::format("--policy: {}", error.what()));
  }
}

void AddModelPath(CLI::App& app, std::string* path) {
  app.add_option("-m,--model,MODEL", *path, "a .gguf file (any part of a split set) or a directory")
      ->type_name("");
}

void RequireModelPath(const std::string& path) {
  if (path.empty()) throw UsageError("MODEL is missing: name a .gguf file or a directory");
}

void AddModelOptions(CLI::App& app, ModelOptions* options) {
  AddModelPath(app, &options->path);
  app.add_option("-t,--threads", options->n_threads, "compute threads; 0: physical cores allowed")
      ->check(WholeNumber(0, 4096))
      ->type_name("N");
  app.add_option("-c,--ctx-size", options->n_ctx, "positions the context holds")
      ->check(WholeNumber(1, int64_t{1} << 31))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--ubatch-size", options->chunk_tokens,
                 "(-ub) prompt tokens computed at once; changes speed, not results; default: 512 "
                 "to 4096, what is fastest by measurements of this machine and its drive")
      ->check(WholeNumber(1, 65536))
      ->type_name("N");
  app.add_option("--memory", options->memory,
                 "the whole memory budget, such as 96GiB; default: what is free")
      ->type_name("SIZE");
  app.add_option("--mode", options->mode, "where weights live: auto, resident, mapped or paged")
      ->check(CLI::IsMember({"auto", "resident", "mapped", "paged"}))
      ->type_name("MODE");
  app.add_option("--io", options->io, "how weights are read: auto, uring, pread or mapped")
      ->check(CLI::IsMember({"auto", "uring", "pread", "mapped"}))
      ->type_name("HOW");
  app.add_option("--policy", options->policy,
                 "which expert leaves the cache, as NAME[:key=value]; `stoker sim --help` lists "
                 "them")
      ->type_name("NAME");
  app.add_option("--prefetch", options->prefetch,
                 "reads of experts that the router will probably want: off, on or auto (while they "
                 "pay)")
      ->check(CLI::IsMember({"off", "on", "auto"}))
      ->type_name("WHEN");
  app.add_option("--mirror", options->mirrors,
                 "a directory on another drive with copies of the model's files; both are read")
      ->type_name("DIR")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--trace", options->trace,
                 "write what the router chose and what it cost, for `stoker sim` and `trace`")
      ->type_name("FILE");
  app.add_option("--numa", options->numa,
                 "weights over NUMA nodes: auto, shard, interleave, node:K or off")
      ->type_name("HOW");
  const auto kv_type = [&app](const char* name, std::string* type, const char* help) {
    app.add_option(name, *type, help)
        ->check(CLI::IsMember({"auto", "f16", "f32"}))
        ->type_name("TYPE");
  };
  kv_type("--cache-type-k", &options->key_type,
          "(-ctk) keys of the context: f16, f32 or auto, f16 where weights are quantised");
  kv_type("--cache-type-v", &options->value_type, "(-ctv) values of the context: the same");
  app.add_flag("--exact", options->exact,
               "full-precision activations instead of integer ones: slower, for comparisons");
  app.add_flag("--no-tune", options->no_tune,
               "do not measure which kernels and read sizes are fastest here; changes speed, and "
               "how prompts round with F32, F16 and BF16 weights");
  app.add_flag("--no-pin", options->no_pin, "let the operating system move threads between cores");
}

NumaChoice ParseNuma(const std::string& text) {
  try {
    return ParseNumaChoice(text);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
}

void AddSamplingOptions(CLI::App& app, SamplingOptions* options) {
  SamplerOptions& sampler = options->sampler;
  app.add_option("--temp,--temperature", sampler.temperature,
                 "temperature; 0: always the likeliest token")
      ->check(CLI::Range(0.0f, 100.0f))
      ->check(RefuseNan)
      ->capture_default_str()
      ->type_name("T");
  app.add_option("--top-k", sampler.top_k, "sample from the k likeliest tokens; 0: all")
      ->check(WholeNumber(0, std::numeric_limits<int32_t>::max()))
      ->capture_default_str()
      ->type_name("K");
  app.add_option("--top-p", sampler.top_p,
                 "sample from the likeliest tokens of this total probability")
      ->check(CLI::Range(1e-6f, 1.0f))
      ->check(RefuseNan)
      ->capture_default_str()
      ->type_name("P");
  app.add_option("--min-p", sampler.min_p,
                 "leave out tokens this much less likely than the likeliest; 0: off")
      ->check(CLI::Range(0.0f, 1.0f))
      ->check(RefuseNan)
      ->capture_default_str()
      ->type_name("P");
  app.add_option("-s,--seed", options->seed, "seed of the sampler; -1: a new one each run")
      ->check(WholeNumber(-1, kLargestSeed))
      ->type_name("N");
}

SamplerOptions ResolveSampling(const SamplingOptions& options) {
  SamplerOptions sampler = options.sampler;
  sampler.seed = options.seed >= 0 ? static_cast<uint64_t>(options.seed) : std::random_device()();
  return sampler;
}

EngineOptions ToEngineOptions(const ModelOptions& options) {
  RequireModelPath(options.path);
  EngineOptions engine;
  engine.model_path = options.path;
  engine.n_threads = options.n_threads;
  engine.pin_threads = !options.no_pin;
  engine.n_ctx = options.n_ctx;
  engine.chunk_tokens = options.chunk_tokens;
  if (!options.memory.empty()) {
    engine.memory_bytes = ParseBytes(options.memory);
    if (!engine.memory_bytes) {
      throw UsageError(
          fmt::format("--memory: {} is not a size; write 96GiB or 512M", options.memory));
    }
  }
  if (options.mode == "resident") engine.mode = MemoryMode::kResident;
  if (options.mode == "mapped") engine.mode = MemoryMode::kMapped;
  if (options.mode == "paged") engine.mode = MemoryMode::kPaged;
  if (options.mode == "mapped" && (options.io == "uring" || options.io == "pread")) {
    throw UsageError(
        fmt::format("--io {} and --mode mapped, where the kernel reads, exclude each other",
                    options.io));
  }
  if (options.io == "uring") engine.io = IoBackend::kUring;
  if (options.io == "pread") engine.io = IoBackend::kPread;
  if (options.io == "mapped") engine.io = IoBackend::kMapped;
  CheckPolicy(options.policy);
  engine.policy = options.policy;
  engine.prefetch = *PrefetchModeFromName(options.prefetch);
  engine.trace_path = options.trace;
  for (const std::string& directory : options.mirrors) {
    if (!std::filesystem::is_directory(directory)) {
      throw UsageError(fmt::format("--mirror: {} is not a directory", directory));
    }
    engine.mirror_dirs.emplace_back(directory);
  }
  engine.numa = ParseNuma(options.numa);
  engine.tune = !options.no_tune;
  engine.kv = {KvTypeFromName(options.key_type), KvTypeFromName(options.value_type)};
  engine.precision = options.exact ? Precision::kExact : Precision::kFast;
  return engine;
}

std::unique_ptr<Engine> OpenEngine(EngineOptions options, const std::vector<NamedFile>& outputs,
                                   const std::vector<NamedFile>& inputs) {
  CheckOutputs(options, outputs, inputs);
  ProgressLine progress("loading");
  options.on_load = [&progress](uint64_t done, uint64_t total) {
    progress.UpdateBytes(done, total);
  };
  const ExitOnInterrupt exit_on_interrupt;
  std::unique_ptr<Engine> engine = Engine::Open(std::move(options));
  const double seconds = progress.seconds();
  progress.Finish();
  PrintNote(Banner(engine->store(), seconds));
  PrintNote(engine->ModeLine());
  if (const std::string line = engine->NumaLine(); !line.empty()) PrintNote(line);
  PrintUnused(*engine);
  return engine;
}

const Tokenizer& RequireTokenizer(const Engine& engine) {
  if (const Tokenizer* tokenizer = engine.tokenizer()) return *tokenizer;
  throw std::runtime_error(fmt::format("{} has no tokenizer; `stoker logits` runs it on token ids",
                                       engine.options().model_path.string()));
}

}  // namespace stoker
