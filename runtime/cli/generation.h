#pragma once

// One answer on its way to the screen: feeds a prompt to a Session, decodes tokens to text as they
// come, stops on Ctrl-C or when the reader goes away, and says afterwards how it went. Shared by
// `run` and `chat`. Main thread only.

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine.h"
#include "runtime/cli/usage.h"
#include "runtime/session.h"
#include "runtime/text/sampler.h"
#include "runtime/text/tokenizer.h"

namespace stoker {

struct Answer {
  std::vector<TokenId> ids;  // without the end token
  std::string text;
  GenerateStats stats;
  Usage prefill, decode;
};

// Where generated text goes; returns false to stop.
using TextSink = std::function<bool(std::string_view)>;

// Streams the answer to `prompt` into `sink`. Stops on the interrupt flag
// (StopReason::kInterrupted), which stays set. max_tokens < 0: until an end token or the context is
// full. Throws std::runtime_error when the prompt does not fit the context.
Answer StreamAnswer(Engine& engine, Session& session, Sampler& sampler,
                    std::span<const TokenId> prompt, int64_t max_tokens, const TextSink& sink);

// "stats: prompt 12 tokens (0 reused), prefill 98.2 tok/s; generated 64, decode 20.1 tok/s; 2.29 GB
// of weights per token, 46.0 GB/s; stopped: end of text", and in paged mode what decoding used.
std::string StatisticsLine(const Answer& answer, const TokenBytes& bytes);

// All of it for programs, on one line, with both roofs (bytes per token over what memory and disk
// can give) where the ceilings are known.
std::string StatisticsJson(const Answer& answer, const Engine& engine, const TokenBytes& bytes,
                           const Ceilings& ceilings);

}  // namespace stoker
