#include "runtime/cli/perplexity_math.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "numa/check.h"

namespace stoker {

void RequireFinite(std::span<const float> logits, int64_t chunk, int64_t position) {
  const auto finite = [](float logit) { return std::isfinite(logit); };
  if (std::all_of(logits.begin(), logits.end(), finite)) return;
  throw std::runtime_error(
      fmt::format("chunk {}, position {}: the logits are not finite; the model's files are damaged "
                  "(compare their checksums), or try --exact",
                  chunk, position));
}

void LogSoftmax(std::span<const float> logits, std::vector<float>* log_probs) {
  STOKER_CHECK(!logits.empty());
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  const double log_sum = std::log(sum) + static_cast<double>(max);
  log_probs->resize(logits.size());
  std::transform(logits.begin(), logits.end(), log_probs->begin(),
                 [log_sum](float logit) { return static_cast<float>(logit - log_sum); });
}

double MeanError::error() const {
  if (n_ < 2) return 0.0;
  const double n = static_cast<double>(n_);
  const double variance = std::max(0.0, sum_squares_ / n - mean() * mean());
  return std::sqrt(variance / (n - 1));
}

void DivergenceStatistics::Add(std::span<const float> base, std::span<const float> model,
                               int32_t next) {
  STOKER_CHECK(base.size() == model.size());
  double divergence = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double p = std::exp(static_cast<double>(base[i]));
    // What the base rules out, or was too unlikely to be saved, adds nothing; what only the model
    // rules out is floored at e^-50, so that one masked id does not make the mean infinite.
    if (p > 0) divergence += p * (base[i] - std::max<double>(model[i], -50.0));
  }
  const auto top = [](std::span<const float> v) {
    return std::max_element(v.begin(), v.end()) - v.begin();
  };
  const double p_next = std::exp(static_cast<double>(base[next]));
  const double q_next = std::exp(static_cast<double>(model[next]));
  divergence_.Add(divergence);
  same_top_.Add(top(base) == top(model) ? 1.0 : 0.0);
  log_ratio_.Add(static_cast<double>(base[next]) - model[next]);
  base_nll_.Add(-base[next]);
  change_.Add(q_next - p_next);
  change_squares_ += (q_next - p_next) * (q_next - p_next);
  values_.push_back(static_cast<float>(divergence));
  sorted_ = false;
}

double DivergenceStatistics::probability_change_rms() const {
  return change_.n() == 0 ? 0.0 : std::sqrt(change_squares_ / static_cast<double>(change_.n()));
}

double DivergenceStatistics::Quantile(double fraction) {
  STOKER_CHECK(!values_.empty());
  if (!sorted_) std::sort(values_.begin(), values_.end());
  sorted_ = true;
  const double at = fraction * static_cast<double>(values_.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, values_.size() - 1);
  return values_[low] + (at - static_cast<double>(low)) * (values_[high] - values_[low]);
}

}  // namespace stoker
