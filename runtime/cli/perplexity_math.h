#pragma once

// The statistics of `perplexity`: negative log-likelihood of the next token, and the comparison of
// two distributions over the vocabulary (Kullback-Leibler divergence, agreement on the likeliest
// token). Pure apart from the accumulators; not thread-safe.

#include <cstdint>
#include <span>
#include <vector>

namespace stoker {

// Throws std::runtime_error naming chunk and position (both from 0) unless every logit [V] is
// finite: a mean over anything else says nothing.
void RequireFinite(std::span<const float> logits, int64_t chunk, int64_t position);

// Log-probabilities of one position: logits [V] to log softmax [V], in double sums. Non-finite
// logits of masked ids stay -inf.
void LogSoftmax(std::span<const float> logits, std::vector<float>* log_probs);

// Mean and standard error of a running set of values.
class MeanError {
 public:
  void Add(double value) {
    ++n_;
    sum_ += value;
    sum_squares_ += value * value;
  }
  int64_t n() const { return n_; }
  double mean() const { return n_ == 0 ? 0.0 : sum_ / static_cast<double>(n_); }
  double error() const;  // of the mean; 0 for fewer than two values

 private:
  int64_t n_ = 0;
  double sum_ = 0, sum_squares_ = 0;
};

// Compares a model (q) with a base (p) position by position.
class DivergenceStatistics {
 public:
  // Log-probabilities [V] of both, -inf for tokens that are ruled out, and the token that follows,
  // which neither rules out.
  void Add(std::span<const float> base, std::span<const float> model, int32_t next);

  const MeanError& divergence() const { return divergence_; }  // KL(base || model)
  const MeanError& same_top() const { return same_top_; }      // 0 or 1
  const MeanError& log_ratio() const { return log_ratio_; }    // ln p(next) - ln q(next)
  const MeanError& base_nll() const { return base_nll_; }
  const MeanError& probability_change() const { return change_; }  // q(next) - p(next)
  double probability_change_rms() const;
  // Quantile of the divergences, fraction in [0, 1]; 0: minimum, 1: maximum. At least one Add
  // before.
  double Quantile(double fraction);

 private:
  MeanError divergence_, same_top_, log_ratio_, base_nll_, change_;
  double change_squares_ = 0;
  std::vector<float> values_;
  bool sorted_ = false;
};

}  // namespace stoker
