#include "runtime/cli/synth_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "numa/bytes.h"
#include "numa/memory_limits.h"
#include "numa/nearest_name.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/cli/progress.h"
#include "runtime/cli/synth_plan.h"
#include "runtime/cli/synth_writer.h"

namespace stoker {
namespace {

// Generating outruns every disk from here on.
constexpr int kMaxGeneratorThreads = 8;

// A dimension as given on the command line; -1: the preset's.
struct Dimension {
  const char* flag;
  const char* meaning;
  int64_t SynthShape::*member;
};

constexpr Dimension kDimensions[] = {
    {"--layers", "layers", &SynthShape::n_layers},
    {"--hidden", "hidden size", &SynthShape::hidden_size},
    {"--heads", "attention heads", &SynthShape::n_heads},
    {"--kv-heads", "key/value heads of softmax layers", &SynthShape::n_kv_heads},
    {"--head-dim", "head size", &SynthShape::head_dim},
    {"--rotary-dim", "rotated part of a head", &SynthShape::rotary_dim},
    {"--expert-hidden", "inner size of an expert", &SynthShape::expert_hidden_size},
    {"--experts", "experts of a layer", &SynthShape::n_experts},
    {"--experts-used", "experts per token", &SynthShape::n_experts_per_token},
    {"--vocab", "vocabulary size", &SynthShape::vocab_size},
    {"--context", "context length the file declares", &SynthShape::context_length},
    {"--full-attention-interval",
     "every n-th layer is softmax; default 8, fewer layers: the last one",
     &SynthShape::full_attention_interval},
};

struct SynthOptions {
  std::string path, type = "q4_k_m", preset = "m1";
  std::vector<std::string> tensor_types;
  uint64_t seed = 1;
  int64_t distinct_experts = 0;
  std::vector<int64_t> dimensions = std::vector<int64_t>(std::size(kDimensions), -1);
};

const TypeMix& MixNamed(const std::string& name) {
  if (const TypeMix* mix = FindTypeMix(name)) return *mix;
  std::vector<std::string> names;
  for (const TypeMix& mix : TypeMixes()) names.emplace_back(mix.name);
  const std::string nearest = NearestName(name, names);
  throw UsageError(fmt::format("--type: unknown type {}{}; there are {}", name,
                               nearest.empty() ? "" : "; did you mean " + nearest + "?",
                               fmt::join(names, ", ")));
}

TypeOverride ParseOverride(const std::string& text) {
  const size_t equals = text.rfind('=');
  const std::optional<DType> type =
      equals == text.npos || equals == 0 ? std::nullopt : DTypeFromName(text.substr(equals + 1));
  if (!type) {
    throw UsageError(
        fmt::format("--tensor-type: {} is not NAME=TYPE, such as ffn_down_exps=q6_k", text));
  }
  return {text.substr(0, equals), *type};
}

int Synth(const SynthOptions& options) {
  SynthRequest request;
  request.path = options.path;
  if (options.preset == "demo") request.shape = DemoShape();
  for (size_t i = 0; i < std::size(kDimensions); ++i) {
    if (options.dimensions[i] >= 0) request.shape.*kDimensions[i].member = options.dimensions[i];
  }
  request.mix = &MixNamed(options.type);
  for (const std::string& text : options.tensor_types)
    request.overrides.push_back(ParseOverride(text));
  try {
    PlanTensors(request.shape, *request.mix, request.overrides);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());  // Sizes and types are all that it looks at.
  }
  request.seed = options.seed;
  request.distinct_expert_layers = options.distinct_experts;
  request.n_threads = std::clamp(UsableCpus(), 1, kMaxGeneratorThreads);
  request.stop = &InterruptFlag();
  ProgressLine progress("writing");
  request.on_progress = [&](uint64_t done, uint64_t total) { progress.UpdateBytes(done, total); };

  const SynthResult result = WriteSynthModel(request);
  const double seconds = progress.seconds();
  progress.Finish();
  if (!result.complete) throw InterruptedError();
  PrintNote(fmt::format(
      "{}: {} layers ({} softmax), {} experts top-{}, {}, {}{} in {:.1f} s ({:.2f} GB/s)",
      options.path, request.shape.n_layers, request.shape.n_layers / request.shape.interval(),
      request.shape.n_experts, request.shape.n_experts_per_token, request.mix->title,
      FormatBytes(result.file_bytes),
      result.written_bytes == result.file_bytes
          ? ""
          : " on " + FormatBytes(result.written_bytes) + " of the disk",
      seconds, static_cast<double>(result.written_bytes) / seconds / 1e9));
  return kExitDone;
}

}  // namespace

std::function<int()> DeclareSynth(CLI::App& app) {
  auto options = std::make_shared<SynthOptions>();
  app.add_option("OUT", options->path, "the .gguf file to write")->required()->type_name("");
  app.add_option("--type", options->type,
                 "type mix as llama-quantize makes it: q4_k_m, q8_0, q2_k, bf16, ...")
      ->capture_default_str()
      ->type_name("TYPE");
  app.add_option(
         "--tensor-type", options->tensor_types,
         "NAME=TYPE: matrices whose name contains NAME; the first match wins; may be repeated")
      ->allow_extra_args(false)
      ->type_name("NAME=TYPE");
  app.add_option("--preset", options->preset,
                 "m1: M1's full width, four layers (14 GB at q4_k_m); demo: all parts, small")
      ->check(CLI::IsMember({"m1", "demo"}))
      ->capture_default_str()
      ->type_name("NAME");
  AddSeed(app, &options->seed, "seed of the weights");
  app.add_option("--distinct-experts", options->distinct_experts,
                 "write the experts of N layers only; the others' lie on the same blocks of the "
                 "disk (XFS, Btrfs)")
      ->check(WholeNumber(1, 512))
      ->type_name("N")
      ->default_str("");
  for (size_t i = 0; i < std::size(kDimensions); ++i) {
    app.add_option(kDimensions[i].flag, options->dimensions[i], kDimensions[i].meaning)
        ->check(WholeNumber(0, int64_t{1} << 31))
        ->type_name("N")
        ->default_str("");
  }
  return [options] { return Synth(*options); };
}

}  // namespace stoker
