#include "runtime/cli/trace_command.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>

#include "experts/trace_export.h"
#include "experts/trace_io.h"
#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/output.h"

namespace stoker {
namespace {

struct TraceOptions {
  std::string action, file, to = "csv", out, expert_bytes;
  SynthOptions synth;
};

int Export(const TraceOptions& options) {
  const TraceFormat format = ParseTraceFormat(options.to);
  const Trace trace = LoadTrace(options.file);
  if (!trace.complete) PrintNote(fmt::format("note: {} was cut off", options.file));
  if (!options.out.empty() && options.out != "-") {
    std::ofstream out(options.out, std::ios::binary | std::ios::trunc);
    if (!out) throw std::system_error(errno, std::generic_category(), options.out);
    ExportTrace(trace, format, out);
    return kExitDone;
  }
  std::ostringstream text;
  ExportTrace(trace, format, text);
  TextOutput output;
  output.Write(text.str());
  return kExitDone;
}

int Synth(TraceOptions options) {
  if (!options.expert_bytes.empty()) {
    const auto bytes = ParseBytes(options.expert_bytes);
    if (!bytes) {
      throw UsageError(fmt::format("--expert-bytes: {} is not a size", options.expert_bytes));
    }
    options.synth.expert_bytes = *bytes;
  }
  const Trace trace = TraceFromSynth(options.synth);
  SaveTrace(trace, options.file);
  PrintNote(
      fmt::format("{}: {} requests, {} accesses", options.file, trace.size(), trace.n_accesses()));
  return kExitDone;
}

int ShowInfo(const TraceOptions& options) {
  TraceReader reader(options.file);
  const TraceHeader& header = reader.header();
  TraceRequest request;
  uint64_t n_requests = 0, n_accesses = 0, hits = 0, misses = 0, prefetches = 0;
  int64_t last_token = -1;
  while (reader.Next(&request)) {
    if (request.kind == TraceKind::kPrefetch) ++prefetches;
    if (request.kind != TraceKind::kDemand) continue;
    ++n_requests;
    n_accesses += request.accesses.size();
    last_token = std::max(last_token, request.token + request.n_tokens - 1);
    for (const TraceAccess& access : request.accesses) {
      hits += access.outcome == AccessOutcome::kHit ? 1 : 0;
      misses += access.outcome == AccessOutcome::kMiss ? 1 : 0;
    }
  }
  std::string text = fmt::format(
      "model {} ({:016x}), {} layers x {} experts, top-{}, experts {} of {}\n"
      "{} requests, {} accesses, tokens 0 to {}{}\n",
      header.model.empty() ? "synthetic" : header.model, header.model_hash, header.n_layers,
      header.n_experts, header.top_k, FormatBytes(header.expert_bytes.front()),
      header.types.empty() ? "no type" : header.types, n_requests, n_accesses, last_token,
      reader.complete() ? "" : " (cut off)");
  if (header.capacity > 0) {
    text +=
        fmt::format("cache of {} experts, policy {}, seed {}: {} hits, {} misses, {} reads ahead\n",
                    header.capacity, header.policy, header.seed, hits, misses, prefetches);
  }
  TextOutput output;
  output.Write(text);
  return kExitDone;
}

int RunTrace(const TraceOptions& options) {
  if (options.action == "export") return Export(options);
  if (options.action == "synth") return Synth(options);
  return ShowInfo(options);
}

}  // namespace

std::function<int()> DeclareTrace(CLI::App& app) {
  auto options = std::make_shared<TraceOptions>();
  SynthOptions& synth = options->synth;
  app.add_option("ACTION", options->action, "export, synth or info")
      ->required()
      ->check(CLI::IsMember({"export", "synth", "info"}))
      ->type_name("");
  app.add_option("FILE", options->file, "the trace to read, or with synth to write")
      ->required()
      ->type_name("");
  app.add_option("--to", options->to, "export: csv, jsonl, oracleGeneral or perfetto")
      ->check(CLI::IsMember({"csv", "jsonl", "oracleGeneral", "perfetto"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  app.add_option("-o,--output", options->out, "export: where to; default: stdout")
      ->type_name("FILE");
  app.add_option("--layers", synth.n_layers, "synth: layers")->capture_default_str();
  app.add_option("--experts", synth.n_experts, "synth: experts per layer")->capture_default_str();
  app.add_option("--top-k", synth.top_k, "synth: experts per token and layer")
      ->capture_default_str();
  app.add_option("-p,--prompt-tokens", synth.prompt_tokens, "synth: tokens prefilled first")
      ->capture_default_str();
  app.add_option("-n,--tokens", synth.decode_tokens, "synth: tokens decoded")
      ->capture_default_str();
  app.add_option("--zipf", synth.zipf, "synth: skew of popularity; 0: balanced")
      ->capture_default_str();
  app.add_option("--locality", synth.locality, "synth: how much of a choice stays, 0 to 1")
      ->capture_default_str();
  app.add_option("--phase-tokens", synth.phase_tokens, "synth: mean length of a phase; 0: one")
      ->capture_default_str();
  app.add_option("--phase-strength", synth.phase_strength, "synth: how much a phase changes")
      ->capture_default_str();
  app.add_option("--expert-bytes", options->expert_bytes, "synth: size of one expert")
      ->type_name("SIZE");
  app.add_option("-s,--seed", synth.seed, "synth: seed")
      ->check(CLI::Range(int64_t{0}, INT64_MAX))
      ->capture_default_str();
  return [options] { return RunTrace(*options); };
}

}  // namespace stoker
