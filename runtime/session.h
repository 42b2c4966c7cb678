#pragma once

// One conversation's state and the loop that feeds and samples it: keeps the tokens the model has
// consumed, reuses the longest prefix the state can stand on, and generates. It knows ids, not
// text. Owned by whoever talks (CLI command, later a server slot); engine-thread only.

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/model.h"
#include "runtime/sequence_state.h"
#include "runtime/text/sampler.h"

namespace stoker {

enum class StopReason : uint8_t { kEndToken, kLength, kContextFull, kInterrupted };

struct GenerateOptions {
  int64_t max_tokens = -1;  // -1: until an end token or the context is full
  int64_t chunk_tokens = 0;
  std::span<const TokenId> end_tokens;
  const std::atomic<bool>* stop = nullptr;           // set by a signal handler
  std::function<void(TokenId)> on_token;             // each generated id, end tokens excluded
  std::function<void(int64_t, int64_t)> on_prefill;  // (done, total) prompt tokens
};

struct GenerateStats {
  StopReason stop_reason = StopReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;     // of the prompt, found in the state
  int64_t prefilled_tokens = 0;  // of the prompt, fed: all others unless interrupted
  int64_t generated_tokens = 0;  // end token included
  double prefill_seconds = 0;    // of prefilled_tokens
  double decode_seconds = 0;     // of decode_steps forward passes
  int64_t decode_steps = 0;
};

class Session {
 public:
  // model is borrowed. Allocates the sequence state for n_ctx positions.
  Session(Model& model, int64_t n_ctx);

  // Makes the consumed tokens equal `prompt`, feeding only what is new, then samples until a stop
  // condition. Reuse: the whole state when it is a prefix of the prompt, else the snapshot taken at
  // the end of the last prompt when that is (the next turn of a chat, a second answer to the same
  // prompt), else from scratch: a lightning state cannot be cut back. Throws std::invalid_argument
  // when the prompt is empty or longer than the context.
  GenerateStats Generate(std::span<const TokenId> prompt, Sampler& sampler,
                         const GenerateOptions& options);

  // Prefill only; logits() are those after the prompt's last token.
  GenerateStats Prefill(std::span<const TokenId> prompt, const GenerateOptions& options);
  // One decode step; logits() afterwards.
  void Feed(TokenId id);

  std::span<const float> logits() const { return logits_; }
  std::span<const TokenId> tokens() const { return tokens_; }  // consumed
  int64_t n_ctx() const { return state_.n_ctx(); }
  SequenceState& state() { return state_; }
  void Reset();

 private:
  int64_t ReusePrefix(std::span<const TokenId> prompt);
  void FeedRun(std::span<const TokenId> ids, LogitRows logits);

  Model& model_;
  SequenceState state_;
  SequenceState::Snapshot prompt_snapshot_;
  std::vector<float> prompt_logits_;  // after the snapshot's last token
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;
  int64_t logits_position_ = -1;  // number of consumed tokens that logits_ follows
};

}  // namespace stoker
