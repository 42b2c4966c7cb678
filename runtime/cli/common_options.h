#pragma once

// The options that every command which loads a model has, spelled the same everywhere, and the
// opening of an Engine from them with banner, progress and `mode:` line. Plain values; main thread
// only.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cli/output_files.h"
#include "runtime/engine.h"
#include "runtime/text/sampler.h"
#include "runtime/text/tokenizer.h"

namespace CLI {
class App;
}

namespace stoker {

// EngineOptions::logit_rows of commands that want the logits of whole texts.
inline constexpr int64_t kLogitRows = 64;

struct ModelOptions {
  std::string path;
  int n_threads = 0;
  int64_t n_ctx = 8192;
  int64_t chunk_tokens = 0;
  std::string memory;  // a size; empty: what is free
  std::string mode = "auto";
  std::string io = "auto";
  std::string policy = "auto";
  std::string prefetch = "auto";
  std::string trace;  // a file to write the routing trace to
  std::vector<std::string> mirrors;
  std::string numa = "auto";
  std::string key_type = "auto";  // of the KV cache
  std::string value_type = "auto";
  bool exact = false;
  bool no_pin = false;
  bool no_tune = false;
};

// MODEL (also -m), -t, -c, -ub, --memory, --mode, --io, --policy, --prefetch, --mirror, --trace,
// --numa, -ctk, -ctv, --exact, --no-tune, --no-pin.
void AddModelOptions(CLI::App& app, ModelOptions* options);
// Only MODEL (also -m), for commands that read the file and run nothing.
void AddModelPath(CLI::App& app, std::string* path);
// Throws UsageError when no model was named.
void RequireModelPath(const std::string& path);

// The choice of --numa; throws UsageError.
NumaChoice ParseNuma(const std::string& text);
// Throws UsageError for a policy's wrong name or parameters. Faults of the files that plug-ins and
// `static` read are not the command line's: they pass, and so do a plug-in's own parameters.
void CheckPolicy(const std::string& spec);

struct SamplingOptions {
  SamplerOptions sampler;
  int64_t seed = -1;  // -1: a new one each run
};

// --temp, --top-k, --top-p, --min-p, -s/--seed, in llama.cpp's names.
void AddSamplingOptions(CLI::App& app, SamplingOptions* options);
// The sampler's options with the seed decided.
SamplerOptions ResolveSampling(const SamplingOptions& options);

// EngineOptions as these options say; throws UsageError for a bad size or policy, and for options
// that exclude each other.
EngineOptions ToEngineOptions(const ModelOptions& options);

// Opens the engine. On stderr: a progress line while loading (terminals), then the banner, the mode
// line and notes on options without effect. `outputs` are the files that the command will write,
// `inputs` those it was given to read beside the model; throws as CheckOutputs does, before
// anything is loaded.
std::unique_ptr<Engine> OpenEngine(EngineOptions options,
                                   const std::vector<NamedFile>& outputs = {},
                                   const std::vector<NamedFile>& inputs = {});

// The engine's tokenizer; throws std::runtime_error naming the model when it has none.
const Tokenizer& RequireTokenizer(const Engine& engine);

}  // namespace stoker
