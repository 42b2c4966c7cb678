#include "runtime/cli/logits_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mmap/safetensors_writer.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/cli/token_ids.h"
#include "runtime/model.h"

namespace stoker {
namespace {

struct LogitsOptions {
  ModelOptions model;
  std::string ids, out;
  int64_t greedy = 0;
  bool layers = false;
  bool has_ctx = false;
};

// Keeps everything a forward pass over the prompt makes.
class Recorder : public ForwardSink {
 public:
  Recorder(const ModelConfig& config, int64_t n_tokens, bool layers)
      : config_(config), n_tokens_(n_tokens), layers_(layers) {
    logits_.resize(Elements({n_tokens, config.vocab_size}));
    if (!layers) return;
    layer_out_.resize(Elements({config.n_layers, n_tokens, config.hidden_size}));
    router_ids_.resize(Elements({config.n_layers, n_tokens, config.n_experts_per_token}));
    router_weights_.resize(router_ids_.size());
  }

  bool wants_layers() const override { return layers_; }

  void OnLogits(int64_t run, int64_t token, std::span<const float> logits) override {
    static_cast<void>(run);
    std::copy(logits.begin(), logits.end(), logits_.begin() + token * config_.vocab_size);
  }

  void OnLayer(const LayerResult& r) override {
    const int64_t hidden = config_.hidden_size, top_k = config_.n_experts_per_token;
    const int64_t row = r.layer * n_tokens_ + r.first_token;
    std::copy_n(r.x, r.n_tokens * hidden, layer_out_.begin() + row * hidden);
    std::copy_n(r.router_ids, r.n_tokens * top_k, router_ids_.begin() + row * top_k);
    std::copy_n(r.router_weights, r.n_tokens * top_k, router_weights_.begin() + row * top_k);
  }

  std::span<const float> last_logits() const {
    return std::span(logits_).last(static_cast<size_t>(config_.vocab_size));
  }

  void AddTo(std::vector<TensorToWrite>* tensors) const {
    const auto f32 = [](const std::vector<float>& v) { return std::as_bytes(std::span(v)); };
    tensors->push_back({"logits", DType::kF32, {n_tokens_, config_.vocab_size}, f32(logits_)});
    if (!layers_) return;
    const int64_t n_layers = config_.n_layers, top_k = config_.n_experts_per_token;
    tensors->push_back(
        {"layer_out", DType::kF32, {n_layers, n_tokens_, config_.hidden_size}, f32(layer_out_)});
    tensors->push_back({"router_ids",
                        DType::kI32,
                        {n_layers, n_tokens_, top_k},
                        std::as_bytes(std::span(router_ids_))});
    tensors->push_back(
        {"router_weights", DType::kF32, {n_layers, n_tokens_, top_k}, f32(router_weights_)});
  }

 private:
  static size_t Elements(std::initializer_list<int64_t> shape) {
    size_t n = 1;
    for (const int64_t dim : shape) n *= static_cast<size_t>(dim);
    return n;
  }

  const ModelConfig& config_;
  int64_t n_tokens_;
  bool layers_;
  std::vector<float> logits_, layer_out_, router_weights_;
  std::vector<int32_t> router_ids_;
};

// One row of logits, reused for every decode step.
class LastRow : public ForwardSink {
 public:
  void OnLogits(int64_t, int64_t, std::span<const float> logits) override {
    row_.assign(logits.begin(), logits.end());
  }
  const std::vector<float>& row() const { return row_; }

 private:
  std::vector<float> row_;
};

// The raw likeliest token, masked or not; the lowest id of equals.
TokenId ArgMax(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void CheckIds(std::span<const TokenId> ids, int64_t vocab_size) {
  for (const TokenId id : ids) {
    if (id >= vocab_size) {
      throw std::runtime_error(
          fmt::format("--ids: {} is outside the vocabulary of {} tokens", id, vocab_size));
    }
  }
}

// Memory for what is recorded until it is written: the recorder's arrays and the decode logits.
uint64_t ResultBytes(const ModelConfig& config, int64_t n_tokens, const LogitsOptions& options) {
  int64_t bytes = (n_tokens + options.greedy) * config.vocab_size * 4;
  if (options.layers) {
    const int64_t row_bytes = config.hidden_size * 4 + config.n_experts_per_token * 8;
    bytes += config.n_layers * n_tokens * row_bytes;
  }
  return static_cast<uint64_t>(bytes);
}

int Logits(const LogitsOptions& options) {
  const std::vector<TokenId> ids = ParseTokenIds(options.ids);
  const auto n_tokens = static_cast<int64_t>(ids.size());
  EngineOptions engine_options = ToEngineOptions(options.model);
  engine_options.need_tokenizer = false;
  const int64_t n_positions = n_tokens + options.greedy;
  if (options.has_ctx && options.model.n_ctx < n_positions) {
    throw UsageError(fmt::format("-c {}: the ids and --greedy need {} positions; leave -c out",
                                 options.model.n_ctx, n_positions));
  }
  engine_options.n_ctx = n_positions;
  engine_options.logit_rows = kLogitRows;
  engine_options.result_bytes = [&](const ModelConfig& config) {
    CheckIds(ids, config.vocab_size);
    return ResultBytes(config, n_tokens, options);
  };
  const NamedFile ids_file{"--ids", options.ids.starts_with('@') ? options.ids.substr(1) : ""};
  const std::unique_ptr<Engine> engine =
      OpenEngine(std::move(engine_options), {NamedFile{"-o", options.out}}, {ids_file});
  const ModelConfig& config = engine->config();

  // 1. The prompt, with the logits of every token.
  SequenceState state = engine->model().NewState(n_tokens + options.greedy);
  Recorder recorder(config, n_tokens, options.layers);
  const auto forward = [&](std::span<const TokenId> tokens, LogitRows rows, ForwardSink& sink) {
    const TokenRun run{&state, tokens, rows};
    if (!engine->model().Forward({&run, 1}, sink, options.model.chunk_tokens, &InterruptFlag())) {
      throw InterruptedError();
    }
  };
  forward(ids, LogitRows::kAll, recorder);

  // 2. Greedy steps: row i holds the logits after feeding decode_ids[i].
  std::vector<TokenId> decode_ids;
  std::vector<float> decode_logits;
  decode_logits.reserve(static_cast<size_t>(options.greedy * config.vocab_size));
  LastRow last;
  TokenId next = ArgMax(recorder.last_logits());
  for (int64_t step = 0; step < options.greedy; ++step) {
    decode_ids.push_back(next);
    forward({&next, 1}, LogitRows::kLast, last);
    decode_logits.insert(decode_logits.end(), last.row().begin(), last.row().end());
    next = ArgMax(last.row());
  }

  std::vector<TensorToWrite> tensors;
  recorder.AddTo(&tensors);
  if (options.greedy > 0) {
    tensors.push_back(
        {"decode_ids", DType::kI32, {options.greedy}, std::as_bytes(std::span(decode_ids))});
    tensors.push_back({"decode_logits",
                       DType::kF32,
                       {options.greedy, config.vocab_size},
                       std::as_bytes(std::span(decode_logits))});
  }
  WriteSafetensors(options.out, tensors, {{"format", "stoker-logits"}});
  PrintNote(
      fmt::format("{}: logits of {} tokens{}{}", options.out, n_tokens,
                  options.greedy > 0 ? fmt::format(" and {} greedy steps", options.greedy) : "",
                  options.layers ? ", with the output of every layer" : ""));
  return kExitDone;
}

}  // namespace

std::function<int()> DeclareLogits(CLI::App& app) {
  auto options = std::make_shared<LogitsOptions>();
  AddModelOptions(app, &options->model);
  CLI::Option* ctx = app.get_option("--ctx-size");
  ctx->description("positions there may be; without it as many as are needed");
  ctx->default_str("");
  app.add_option("--ids", options->ids, "token ids: 1,2,3 or @FILE")->required()->type_name("IDS");
  app.add_option("-o,--output", options->out, "the safetensors file to write")
      ->required()
      ->type_name("FILE");
  app.add_option("--greedy", options->greedy, "then feed the likeliest token N times")
      ->check(WholeNumber(0, int64_t{1} << 20))
      ->type_name("N");
  app.add_flag("--layers", options->layers,
               "also what leaves every layer and the router's choices");
  return [options, ctx] {
    options->has_ctx = ctx->count() > 0;
    return Logits(*options);
  };
}

}  // namespace stoker
