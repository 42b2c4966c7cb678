#pragma once

// Chooses the next token from logits: greedy, or drawn after top-k, top-p and min-p. Filters apply
// in llama.cpp's default order: top-k, top-p, min-p, temperature last, so top-p and min-p
// judge the probabilities at temperature 1 and temperature shapes the draw among the survivors.
// One per sequence; not thread-safe; no allocation after construction. The same logits, options and
// seed give the same ids on every machine (own generator, own exponential, fixed summation order).

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "runtime/text/token_id.h"

namespace stoker {

struct SamplerOptions {
  float temperature = 1.0f;  // 0: greedy, ties to the lower id
  int32_t top_k = 0;         // keep the k likeliest; 0: all
  float top_p = 0.95f;       // keep the fewest likeliest whose mass reaches p; 1: all
  float min_p = 0.0f;        // keep those at least min_p times as likely as the likeliest; 0: all
  uint64_t seed = 0;
};

class Sampler {
 public:
  // vocab_size: logits per call. `never`: ids that are never chosen (Tokenizer::never_sampled).
  // Throws std::invalid_argument for options out of range (temperature < 0, top_k < 0, top_p
  // outside (0, 1], min_p outside [0, 1], NaN) or ids outside the vocabulary.
  Sampler(const SamplerOptions& options, int64_t vocab_size, std::span<const TokenId> never = {});

  // logits [vocab_size]. -inf is "never"; throws std::runtime_error for NaN and +inf, which mean
  // damaged weights or a fault in the computation, and when nothing is left to choose from.
  TokenId Sample(std::span<const float> logits);

  // The likeliest token that is not masked, whatever the options.
  TokenId Greedy(std::span<const float> logits) const;

  // Starts the random sequence again.
  void Reseed(uint64_t seed);

  const SamplerOptions& options() const { return options_; }

 private:
  struct Candidate {
    TokenId id;
    float logit;
  };

  // Each narrows candidates_; max_logit is the likeliest one's.
  void KeepTopK(float max_logit);
  void KeepTopP(float max_logit);
  void KeepMinP(float max_logit);
  // Sorts the candidates of one histogram bucket into order_, likeliest first.
  void OrderBucket(float max_logit, int bucket);
  // Keeps the buckets before `cut` and the first `keep_of_cut` of order_, which is that bucket.
  void KeepPrefix(float max_logit, int cut, size_t keep_of_cut);
  TokenId Draw(float max_logit);
  double NextUniform();

  SamplerOptions options_;
  std::vector<uint8_t> masked_;         // [vocab_size]
  std::vector<Candidate> candidates_;   // survivors, ascending ids; capacity vocab_size
  std::vector<double> weights_;         // exp(logit - max) of candidates_
  std::vector<uint32_t> order_;         // scratch: indices of one histogram bucket
  std::mt19937_64 generator_;           // its sequence is fixed by the C++ standard
};

}  // namespace stoker
