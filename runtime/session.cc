#include "runtime/session.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>

#include "runtime/layers/segments.h"

namespace stoker {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool Stopped(const GenerateOptions& options) {
  return options.stop != nullptr && options.stop->load(std::memory_order_relaxed);
}

// Copies the logits of a single run.
class LastLogits : public ForwardSink {
 public:
  explicit LastLogits(std::vector<float>& logits) : logits_(logits) {}
  void OnLogits(int64_t, int64_t, std::span<const float> logits) override {
    std::copy(logits.begin(), logits.end(), logits_.begin());
  }

 private:
  std::vector<float>& logits_;
};

}  // namespace

Session::Session(Model& model, int64_t n_ctx)
    : model_(model),
      state_(model.NewState(n_ctx)),
      logits_(static_cast<size_t>(model.config().vocab_size)) {
  tokens_.reserve(static_cast<size_t>(n_ctx));
  state_.Save(prompt_snapshot_);  // its memory is had now, not at the first prompt
  Reset();
}

void Session::Reset() {
  state_.Reset();
  prompt_snapshot_.position = -1;
  tokens_.clear();
  logits_position_ = -1;
}

// Brings the state to the longest prefix of `prompt` it can stand on; returns its length.
int64_t Session::ReusePrefix(std::span<const TokenId> prompt) {
  const auto mismatch = std::mismatch(tokens_.begin(), tokens_.end(), prompt.begin(), prompt.end());
  const int64_t common = mismatch.first - tokens_.begin();
  const int64_t length = static_cast<int64_t>(prompt.size());
  const bool whole_state = common == static_cast<int64_t>(tokens_.size());
  if (whole_state && (common < length || logits_position_ == length)) return common;
  if (prompt_snapshot_.position > 0 && prompt_snapshot_.position <= common) {
    state_.Restore(prompt_snapshot_);
    tokens_.resize(static_cast<size_t>(prompt_snapshot_.position));
    logits_ = prompt_logits_;
    logits_position_ = prompt_snapshot_.position;
    return prompt_snapshot_.position;
  }
  Reset();
  return 0;
}

void Session::FeedRun(std::span<const TokenId> ids, LogitRows logits) {
  const TokenRun run{&state_, ids, logits};
  LastLogits sink(logits_);
  try {
    model_.Forward({&run, 1}, sink);
  } catch (...) {
    Reset();  // the state may be somewhere inside a layer
    throw;
  }
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  if (logits != LogitRows::kNone) logits_position_ = state_.position();
}

GenerateStats Session::Prefill(std::span<const TokenId> prompt, const GenerateOptions& options) {
  if (prompt.empty()) throw std::invalid_argument("the prompt has no tokens");
  const int64_t length = static_cast<int64_t>(prompt.size());
  if (length > n_ctx()) {
    throw std::invalid_argument("the prompt has " + std::to_string(length) +
                                " tokens, the context " + std::to_string(n_ctx()) + "; raise -c");
  }
  GenerateStats stats;
  stats.prompt_tokens = length;
  stats.reused_tokens = ReusePrefix(prompt);
  const auto start = Clock::now();
  const int64_t chunk = options.chunk_tokens > 0
                            ? std::min(options.chunk_tokens, model_.max_chunk_tokens())
                            : model_.max_chunk_tokens();
  // Chunk by chunk, so that progress is seen, an interrupt is honoured and tokens_ always says what
  // the state holds.
  for (int64_t done = stats.reused_tokens; done < length;) {
    if (Stopped(options)) {
      stats.stop_reason = StopReason::kInterrupted;
      stats.prefill_seconds = SecondsSince(start);
      return stats;
    }
    const int64_t n = TokensThatFit(done, length - done, chunk);
    FeedRun(prompt.subspan(done, n), done + n == length ? LogitRows::kLast : LogitRows::kNone);
    done += n;
    stats.prefilled_tokens += n;
    if (options.on_prefill) options.on_prefill(done, length);
  }
  if (prompt_snapshot_.position != length) {  // else it is of these very tokens
    state_.Save(prompt_snapshot_);
    prompt_logits_ = logits_;
  }
  stats.prefill_seconds = SecondsSince(start);
  return stats;
}

void Session::Feed(TokenId id) { FeedRun({&id, 1}, LogitRows::kLast); }

GenerateStats Session::Generate(std::span<const TokenId> prompt, Sampler& sampler,
                                const GenerateOptions& options) {
  GenerateStats stats = Prefill(prompt, options);
  if (stats.stop_reason == StopReason::kInterrupted) return stats;
  const auto start = Clock::now();
  stats.stop_reason = StopReason::kLength;
  while (options.max_tokens < 0 || stats.generated_tokens < options.max_tokens) {
    if (Stopped(options)) {
      stats.stop_reason = StopReason::kInterrupted;
      break;
    }
    const TokenId id = sampler.Sample(logits_);
    ++stats.generated_tokens;
    if (std::find(options.end_tokens.begin(), options.end_tokens.end(), id) !=
        options.end_tokens.end()) {
      stats.stop_reason = StopReason::kEndToken;
      break;
    }
    if (options.on_token) options.on_token(id);
    if (stats.generated_tokens == options.max_tokens) break;
    if (state_.position() == n_ctx()) {
      stats.stop_reason = StopReason::kContextFull;
      break;
    }
    Feed(id);
    ++stats.decode_steps;
  }
  stats.decode_seconds = SecondsSince(start);
  return stats;
}

}  // namespace stoker
