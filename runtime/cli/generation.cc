#include "runtime/cli/generation.h"

#include <fmt/format.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "runtime/cli/interrupt.h"
#include "runtime/cli/progress.h"
#include "runtime/text/stream_decoder.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

const char* StopName(StopReason reason) {
  switch (reason) {
    case StopReason::kEndToken:
      return "end of text";
    case StopReason::kLength:
      return "length (-n)";
    case StopReason::kContextFull:
      return "context full (-c)";
    case StopReason::kInterrupted:
      return "interrupted";
  }
  return "";
}

// "2.29 GB", "6.14 MB": powers of ten, as memory bandwidth is quoted.
std::string DecimalBytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  return value >= 1e8 ? fmt::format("{:.2f} GB", value / 1e9)
                      : fmt::format("{:.3g} MB", value / 1e6);
}

double PerSecond(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
}

}  // namespace

Answer StreamAnswer(Engine& engine, Session& session, Sampler& sampler,
                    std::span<const TokenId> prompt, int64_t max_tokens, const TextSink& sink) {
  if (static_cast<int64_t>(prompt.size()) >= session.n_ctx()) {
    throw std::runtime_error(
        fmt::format("the prompt has {} tokens and the context holds {}; raise -c", prompt.size(),
                    session.n_ctx()));
  }
  const Tokenizer& tokenizer = *engine.tokenizer();
  StreamDecoder decoder(tokenizer);
  Answer answer;
  std::atomic<bool> stop = false;  // a reader that went away; Ctrl-C sets the interrupt flag
  const auto emit = [&](std::string_view text) {
    answer.text += text;
    if (!text.empty() && !sink(text)) InterruptFlag() = stop = true;
  };

  const UsageMeter meter(engine);
  const Usage at_start = meter.Read();
  Usage at_decode = at_start;
  ProgressLine progress("prompt");
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.chunk_tokens = engine.options().chunk_tokens;
  options.end_tokens = tokenizer.end_tokens();
  options.stop = &InterruptFlag();
  options.on_prefill = [&](int64_t done, int64_t total) {
    progress.UpdateCount(done, total, "tokens");
    if (done == total) {
      progress.Finish();
      at_decode = meter.Read();
    }
  };
  options.on_token = [&](TokenId id) {
    progress.Finish();
    answer.ids.push_back(id);
    emit(decoder.Push(id));
  };
  answer.stats = session.Generate(prompt, sampler, options);
  const Usage at_end = meter.Read();
  const GenerateStats& stats = answer.stats;
  // Stopped inside the prompt: nothing was decoded.
  if (stats.reused_tokens + stats.prefilled_tokens < stats.prompt_tokens) at_decode = at_end;
  answer.prefill = at_decode - at_start;
  answer.decode = at_end - at_decode;
  progress.Finish();
  if (!stop) emit(decoder.Flush());
  if (stop) ClearInterrupt();  // Set by us, not by the user.
  return answer;
}

std::string StatisticsLine(const Answer& answer, const TokenBytes& bytes) {
  const GenerateStats& stats = answer.stats;
  std::string line =
      fmt::format("stats: prompt {} tokens ({} reused)", stats.prompt_tokens, stats.reused_tokens);
  if (stats.prefilled_tokens > 0) {
    line += fmt::format(", prefill {:.1f} tok/s",
                        PerSecond(stats.prefilled_tokens, stats.prefill_seconds));
  }
  line += fmt::format("; generated {}", stats.generated_tokens);
  // The first token comes out of the prompt: with one there is no speed to tell.
  if (stats.decode_steps > 0) {
    const double decode_rate = PerSecond(stats.decode_steps, stats.decode_seconds);
    const std::string used = UsageLine(answer.decode, stats.decode_steps);
    line += fmt::format(", decode {:.2f} tok/s; {} of weights per token, {:.1f} GB/s{}{}",
                        decode_rate, DecimalBytes(bytes.weights()),
                        static_cast<double>(bytes.weights()) * decode_rate / 1e9,
                        used.empty() ? "" : "; ", used);
  }
  return line + "; stopped: " + std::string(StopName(stats.stop_reason));
}

std::string StatisticsJson(const Answer& answer, const Engine& engine, const TokenBytes& bytes,
                           const Ceilings& ceilings) {
  const GenerateStats& stats = answer.stats;
  Json json = {{"prompt_tokens", stats.prompt_tokens},
               {"reused_tokens", stats.reused_tokens},
               {"prefilled_tokens", stats.prefilled_tokens},
               {"prefill_seconds", stats.prefill_seconds},
               {"prefill_ts", PerSecond(stats.prefilled_tokens, stats.prefill_seconds)},
               {"generated_tokens", stats.generated_tokens},
               {"decode_steps", stats.decode_steps},
               {"decode_seconds", stats.decode_seconds},
               {"decode_ts", PerSecond(stats.decode_steps, stats.decode_seconds)},
               {"stopped", StopName(stats.stop_reason)},
               {"mode_line", engine.ModeLine()},
               {"weight_bytes_per_token", bytes.weights()},
               {"prefill", UsageJson(answer.prefill, stats.prefilled_tokens)},
               {"decode", UsageJson(answer.decode, stats.decode_steps)}};
  const Roofs roofs = RoofsFor(bytes.weights(), answer.decode, stats.decode_steps, ceilings);
  json["roofs"] = RoofsJson(roofs, ceilings, PerSecond(stats.decode_steps, stats.decode_seconds));
  if (engine.cache() != nullptr) {
    json["guesses"] = GuessesJson(engine.cache()->governor());
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace stoker
