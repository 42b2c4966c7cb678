#include "runtime/cli/perplexity_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/divergence_base.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/cli/perplexity_math.h"
#include "runtime/model.h"

namespace stoker {
namespace {

constexpr size_t kMaxTextBytes = kGiB;

struct PerplexityOptions {
  ModelOptions model;
  std::string file, base_in, base_out;
  bool has_ctx = false;
  int64_t n_chunks = -1;  // most; -1: all
};

// Scores one chunk: takes the logits after each token as they come and compares them with the
// next token. As llama-perplexity does, only the second half of a chunk counts, where every
// prediction has at least half a chunk of context.
class ChunkScorer : public ForwardSink {
 public:
  ChunkScorer(DivergenceBaseWriter* writer, DivergenceBaseReader* reader)
      : writer_(writer), reader_(reader) {}

  void Begin(int64_t chunk, std::span<const TokenId> tokens, int64_t first) {
    chunk_ = chunk;
    tokens_ = tokens;
    first_ = first;
  }

  void OnLogits(int64_t run, int64_t token, std::span<const float> logits) override {
    static_cast<void>(run);
    if (token < first_ || token + 1 >= static_cast<int64_t>(tokens_.size())) return;
    const TokenId next = tokens_[static_cast<size_t>(token) + 1];
    RequireFinite(logits, chunk_, token);
    LogSoftmax(logits, &log_probs_);
    nll_.Add(-static_cast<double>(log_probs_[static_cast<size_t>(next)]));
    if (writer_ != nullptr) writer_->Add(log_probs_, next);
    if (reader_ != nullptr) {
      reader_->Next(next, &base_);
      divergence_.Add(base_, log_probs_, next);
    }
  }

  const MeanError& nll() const { return nll_; }
  DivergenceStatistics& divergence() { return divergence_; }

 private:
  DivergenceBaseWriter* writer_;
  DivergenceBaseReader* reader_;
  std::span<const TokenId> tokens_;
  int64_t chunk_ = 0, first_ = 0;
  std::vector<float> log_probs_, base_;
  MeanError nll_;
  DivergenceStatistics divergence_;
};

void PrintDivergence(DivergenceStatistics& d, const MeanError& nll, TextOutput& output) {
  const double ppl = std::exp(nll.mean()), base = std::exp(d.base_nll().mean());
  std::string out = "\n====== Perplexity statistics ======\n";
  out +=
      fmt::format("Mean PPL(Q)                   : {:10.6f} ± {:10.6f}\n", ppl, ppl * nll.error());
  out += fmt::format("Mean PPL(base)                : {:10.6f} ± {:10.6f}\n", base,
                     base * d.base_nll().error());
  out += fmt::format("Mean ln(PPL(Q)/PPL(base))     : {:10.6f} ± {:10.6f}\n", d.log_ratio().mean(),
                     d.log_ratio().error());
  out += fmt::format("Mean PPL(Q)/PPL(base)         : {:10.6f}\n", ppl / base);
  out += fmt::format("Mean PPL(Q)-PPL(base)         : {:10.6f}\n", ppl - base);
  out += "\n====== KL divergence statistics ======\n";
  out += fmt::format("Mean    KLD: {:10.6f} ± {:10.6f}\n", d.divergence().mean(),
                     d.divergence().error());
  out += fmt::format("Maximum KLD: {:10.6f}\n", d.Quantile(1.0));
  for (const double percent : {99.9, 99.0, 95.0, 90.0}) {
    out += fmt::format("{:4.1f}%   KLD: {:10.6f}\n", percent, d.Quantile(percent / 100));
  }
  out += fmt::format("Median  KLD: {:10.6f}\n", d.Quantile(0.5));
  for (const double percent : {10.0, 5.0, 1.0}) {
    out += fmt::format("{:4.1f}%   KLD: {:10.6f}\n", percent, d.Quantile(percent / 100));
  }
  out += fmt::format("Minimum KLD: {:10.6f}\n", d.Quantile(0.0));
  out += "\n====== Token probability statistics ======\n";
  out += fmt::format("Mean    Δp: {:6.3f} ± {:5.3f} %\n", 100 * d.probability_change().mean(),
                     100 * d.probability_change().error());
  out += fmt::format("RMS Δp    : {:6.3f} %\n", 100 * d.probability_change_rms());
  out += fmt::format("Same top p: {:6.3f} ± {:5.3f} %\n", 100 * d.same_top().mean(),
                     100 * d.same_top().error());
  output.Write(out);
}

std::vector<TokenId> TokensToScore(const PerplexityOptions& options, const std::string& text,
                                   const Engine& engine, const DivergenceBaseReader* reader) {
  if (reader != nullptr) {
    if (reader->header().n_vocab != engine.config().vocab_size) {
      throw std::runtime_error(fmt::format("{}: made with a vocabulary of {}, this model has {}",
                                           options.base_in, reader->header().n_vocab,
                                           engine.config().vocab_size));
    }
    return reader->tokens();
  }
  return RequireTokenizer(engine).Encode(text, SpecialTokens::kParse);
}

int Perplexity(const PerplexityOptions& options) {
  if (options.n_chunks == 0) throw UsageError("--chunks 0 leaves nothing to score; -1: all");
  std::optional<DivergenceBaseReader> reader;
  std::string text;
  int64_t n_ctx = options.model.n_ctx;
  int64_t first = n_ctx / 2;
  if (!options.base_in.empty()) {
    reader.emplace(options.base_in);
    // Its chunks, so that every position has the same context.
    n_ctx = reader->header().n_ctx;
    first = reader->header().first;
    if (options.has_ctx && options.model.n_ctx != n_ctx) {
      throw UsageError(fmt::format("-c {}: {} was saved with chunks of {} tokens; leave -c out",
                                   options.model.n_ctx, options.base_in, n_ctx));
    }
  } else if (options.file.empty()) {
    throw UsageError("needs -f FILE, or --kl-base FILE which holds its text");
  } else if (n_ctx < 3) {
    throw UsageError("-c must be at least 3: the second half of a chunk is scored, less its end");
  } else {
    text = ReadTextFile(options.file, kMaxTextBytes);
  }

  EngineOptions engine_options = ToEngineOptions(options.model);
  engine_options.n_ctx = n_ctx;
  engine_options.logit_rows = kLogitRows;
  engine_options.need_tokenizer = !reader;  // The base holds tokens.
  std::vector<NamedFile> outputs;
  if (!options.base_out.empty()) outputs.push_back({"--save-base", options.base_out});
  const std::vector<NamedFile> inputs = {{"-f", options.file}, {"--kl-base", options.base_in}};
  const std::unique_ptr<Engine> engine = OpenEngine(std::move(engine_options), outputs, inputs);
  const std::vector<TokenId> tokens =
      TokensToScore(options, text, *engine, reader ? &*reader : nullptr);
  int64_t n_chunks = static_cast<int64_t>(tokens.size()) / n_ctx;
  if (n_chunks == 0) {
    throw std::runtime_error(
        fmt::format("the text has {} tokens and one chunk needs {}; give a longer text or a "
                    "smaller -c",
                    tokens.size(), n_ctx));
  }
  if (options.n_chunks > 0) n_chunks = std::min(n_chunks, options.n_chunks);

  std::optional<DivergenceBaseWriter> writer;
  if (!options.base_out.empty()) {
    writer.emplace(
        options.base_out,
        DivergenceBaseHeader{static_cast<uint32_t>(engine->config().vocab_size),
                             static_cast<uint32_t>(n_ctx), static_cast<uint32_t>(n_chunks),
                             static_cast<uint32_t>(first)},
        std::span(tokens).first(static_cast<size_t>(n_chunks * n_ctx)));
  }

  PrintNote(fmt::format("perplexity: calculating perplexity over {} chunks, n_ctx={}, n_tokens={}",
                        n_chunks, n_ctx, tokens.size()));
  ChunkScorer scorer(writer ? &*writer : nullptr, reader ? &*reader : nullptr);
  SequenceState state = engine->model().NewState(n_ctx);
  TextOutput output;
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const std::span<const TokenId> ids(tokens.data() + chunk * n_ctx, static_cast<size_t>(n_ctx));
    state.Reset();
    scorer.Begin(chunk, ids, first);
    const TokenRun run{&state, ids, LogitRows::kAll};
    if (!engine->model().Forward({&run, 1}, scorer, options.model.chunk_tokens, &InterruptFlag())) {
      throw InterruptedError();
    }
    output.Write(fmt::format("[{}]{:.4f},", chunk + 1, std::exp(scorer.nll().mean())));
    if (output.closed() && !writer) return kExitDone;  // Nobody reads the rest.
  }
  output.Write("\n");
  if (writer) writer->Commit();
  if (reader) PrintDivergence(scorer.divergence(), scorer.nll(), output);
  const double ppl = std::exp(scorer.nll().mean());
  output.Write(
      fmt::format("Final estimate: PPL = {:.4f} +/- {:.5f}\n", ppl, ppl * scorer.nll().error()));
  return kExitDone;
}

}  // namespace

std::function<int()> DeclarePerplexity(CLI::App& app) {
  auto options = std::make_shared<PerplexityOptions>();
  options->model.n_ctx = 512;  // llama-perplexity's chunk length
  AddModelOptions(app, &options->model);
  CLI::Option* ctx = app.get_option("--ctx-size");
  ctx->description("tokens of one chunk; its second half is scored");
  CLI::Option* file = app.add_option("-f,--file", options->file, "the text to score, - for stdin");
  file->type_name("FILE");
  app.add_option("--chunks", options->n_chunks, "most chunks to score; -1: all")
      ->check(WholeNumber(-1, int64_t{1} << 31))
      ->type_name("N");
  CLI::Option* save = app.add_option("--save-base", options->base_out,
                                     "save this model's log-probabilities for --kl-base");
  save->type_name("FILE");
  CLI::Option* kl = app.add_option("--kl-base,--kl-divergence-base", options->base_in,
                                   "compare with the model that saved FILE, on its text");
  kl->type_name("FILE")->excludes(save);
  file->excludes(kl);
  return [options, ctx] {
    options->has_ctx = ctx->count() > 0;
    return Perplexity(*options);
  };
}

}  // namespace stoker
