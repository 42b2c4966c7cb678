#include "runtime/cli/trace_command.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "experts/trace_export.h"
#include "experts/trace_io.h"
#include "mmap/atomic_file.h"
#include "mmap/format_error.h"
#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"

namespace stoker {
namespace {

struct TraceOptions {
  std::string action, file, to = "csv", out, expert_bytes;
  SynthOptions synth;
  // Options that only one action has, by its name.
  std::vector<std::pair<std::string, const CLI::Option*>> owned;
};

using WritePiece = std::function<void(std::string_view)>;

// Hands on what a stream writes, in pieces of this size, until Ctrl-C. What is thrown reaches the
// writer of a stream that has badbit among its exceptions.
class PieceBuffer final : public std::streambuf {
 public:
  explicit PieceBuffer(WritePiece write) : write_(std::move(write)), piece_(kPieceBytes) {
    setp(piece_.data(), piece_.data() + piece_.size());
  }

 protected:
  int_type overflow(int_type c) override {
    sync();
    if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
    return traits_type::not_eof(c);
  }
  int sync() override {
    ThrowIfInterrupted();
    write_({pbase(), static_cast<size_t>(pptr() - pbase())});
    setp(piece_.data(), piece_.data() + piece_.size());
    return 0;
  }

 private:
  static constexpr size_t kPieceBytes = size_t{1} << 16;

  WritePiece write_;
  std::vector<char> piece_;
};

void StreamExport(const Trace& trace, TraceFormat format, WritePiece write) {
  PieceBuffer buffer(std::move(write));
  std::ostream out(&buffer);
  out.exceptions(std::ios::badbit);
  ExportTrace(trace, format, out);
}

Trace Load(const std::string& path) {
  const ExitOnInterrupt exit_on_interrupt;
  return LoadTrace(path);
}

int Export(const TraceOptions& options) {
  const bool to_stdout = options.out.empty() || options.out == "-";
  std::error_code absent;
  if (!to_stdout && std::filesystem::equivalent(options.file, options.out, absent)) {
    throw UsageError(fmt::format("-o {} is the trace itself; name another file", options.out));
  }
  const TraceFormat format = ParseTraceFormat(options.to);
  const Trace trace = Load(options.file);
  if (!trace.complete) PrintNote(fmt::format("note: {} was cut off", options.file));
  if (to_stdout) {
    TextOutput output;
    StreamExport(trace, format, [&output](std::string_view piece) { output.Write(piece); });
    return kExitDone;
  }
  AtomicFile file(options.out);
  StreamExport(trace, format, [&file](std::string_view piece) { file.Write(piece); });
  file.Commit();
  return kExitDone;
}

Trace MakeUp(const SynthOptions& options) {
  const ExitOnInterrupt exit_on_interrupt;
  try {
    return TraceFromSynth(options);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());  // Options out of range are all that it throws for.
  }
}

int Synth(TraceOptions options) {
  if (!options.expert_bytes.empty()) {
    const auto bytes = ParseBytes(options.expert_bytes);
    if (!bytes) {
      throw UsageError(fmt::format("--expert-bytes: {} is not a size", options.expert_bytes));
    }
    options.synth.expert_bytes = *bytes;
  }
  const Trace trace = MakeUp(options.synth);
  ThrowIfInterrupted();
  SaveTrace(trace, options.file);
  PrintNote(
      fmt::format("{}: {} requests, {} accesses", options.file, trace.size(), trace.n_accesses()));
  return kExitDone;
}

int ShowInfo(const TraceOptions& options) {
  const ExitOnInterrupt exit_on_interrupt;
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
      header.model.empty() ? "synthetic" : Printable(header.model), header.model_hash,
      header.n_layers, header.n_experts, header.top_k, FormatBytes(header.expert_bytes.front()),
      header.types.empty() ? "no type" : Printable(header.types), n_requests, n_accesses,
      last_token, reader.complete() ? "" : " (cut off)");
  if (header.capacity > 0) {
    // A policy may hold a path.
    text +=
        fmt::format("cache of {} experts, policy {}, seed {}: {} hits, {} misses, {} reads ahead\n",
                    header.capacity, PrintablePath(header.policy), header.seed, hits, misses,
                    prefetches);
  }
  TextOutput output;
  output.Write(text);
  return kExitDone;
}

// CLI11 takes an empty text for the number 0.
std::string RefuseEmpty(const std::string& text) { return text.empty() ? "has no value" : ""; }

int RunTrace(const TraceOptions& options) {
  for (const auto& [action, option] : options.owned) {
    if (action != options.action && option->count() > 0) {
      throw UsageError(fmt::format("{} is for `trace {}`", option->get_name(), action));
    }
  }
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
  const auto add = [&](const char* action, const char* names, auto& value, const char* help) {
    CLI::Option* const option =
        app.add_option(names, value, fmt::format("{}: {}", action, help));
    if constexpr (!std::is_same_v<decltype(value), std::string&>) option->check(RefuseEmpty);
    options->owned.emplace_back(action, option);
    return option;
  };
  add("export", "--to", options->to, "csv, jsonl, oracleGeneral or perfetto")
      ->check(CLI::IsMember({"csv", "jsonl", "oracleGeneral", "perfetto"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  add("export", "-o,--output", options->out, "where to; default: stdout")->type_name("FILE");
  const auto add_count = [&](const char* names, auto& value, int64_t low, int64_t high,
                             const char* help) {
    add("synth", names, value, help)
        ->check(WholeNumber(low, high))
        ->capture_default_str()
        ->type_name("N");
  };
  add_count("--layers", synth.n_layers, 1, 4096, "layers");
  add_count("--experts", synth.n_experts, 1, 65536, "experts per layer");
  add_count("--top-k", synth.top_k, 1, 65536, "experts per token and layer");
  add_count("-p,--prompt-tokens", synth.prompt_tokens, 0, 100'000'000, "tokens prefilled first");
  add_count("-n,--tokens", synth.decode_tokens, 0, 100'000'000, "tokens decoded");
  add("synth", "--zipf", synth.zipf, "skew of popularity; 0: balanced")->capture_default_str();
  add("synth", "--locality", synth.locality, "how much of a choice stays, 0 to 1")
      ->capture_default_str();
  add("synth", "--phase-tokens", synth.phase_tokens, "mean length of a phase; 0: one")
      ->capture_default_str();
  add("synth", "--phase-strength", synth.phase_strength, "how much a phase changes")
      ->capture_default_str();
  add("synth", "--expert-bytes", options->expert_bytes, "size of one expert")->type_name("SIZE");
  options->owned.emplace_back("synth", AddSeed(app, &synth.seed, "synth: seed"));
  return [options] { return RunTrace(*options); };
}

}  // namespace stoker
