#include "runtime/text/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "numa/check.h"

namespace stoker {
namespace {

// Histogram over max - logit: 16 buckets per nat; what lies more than 64 nats below the likeliest
// token (e^-64 = 1e-28 of its probability) shares the last one.
constexpr int kBuckets = 1024;
constexpr float kBucketsPerNat = 16.0f;

int BucketOf(float below_max) {
  const float scaled = below_max * kBucketsPerNat;
  return scaled >= kBuckets - 1 ? kBuckets - 1 : static_cast<int>(scaled);
}

// The first term left out of the series is (ln(2) / 2)^14 / 14! < 5e-18.
constexpr int kTerms = 14;
constexpr std::array<double, kTerms> kInverseFactorials = [] {
  std::array<double, kTerms> terms{};
  double factorial = 1.0;
  for (int k = 0; k < kTerms; ++k) {
    if (k > 0) factorial *= k;
    terms[k] = 1.0 / factorial;
  }
  return terms;
}();

// e^x for x <= 0 within two units of the last place: 2^n times a Taylor series on half an octave
// each side. The C library's result depends on its version and on the processor's instructions, and
// one different bit can change which token a seed draws.
double ExpNonPositive(double x) {
  if (!(x > -700.0)) return 0.0;
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;  // 32 bits, so that n * high is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double n = std::nearbyint(x * kLog2E);
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  double sum = kInverseFactorials[kTerms - 1];
  for (int k = kTerms - 2; k >= 0; --k) sum = sum * r + kInverseFactorials[k];
  const auto exponent = static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52;
  return sum * std::bit_cast<double>(exponent);
}

void RequireRange(bool ok, const char* option, double value, const char* range) {
  if (ok) return;
  throw std::invalid_argument(std::string(option) + " " + std::to_string(value) +
                              " is out of range: " + range);
}

[[noreturn]] void FailBadLogit(size_t id, float value) {
  throw std::runtime_error("logit of token " + std::to_string(id) + " is " +
                           (std::isnan(value) ? "NaN" : "infinite") +
                           ": the weights are damaged or the computation overflowed; check the "
                           "model file, and try --exact");
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options, int64_t vocab_size, std::span<const TokenId> never)
    : options_(options), generator_(options.seed) {
  RequireRange(options.temperature >= 0.0f && std::isfinite(options.temperature), "temperature",
               options.temperature, "0 or more");
  RequireRange(options.top_k >= 0, "top-k", options.top_k, "0 (all) or more");
  RequireRange(options.top_p > 0.0f && options.top_p <= 1.0f, "top-p", options.top_p,
               "above 0, up to 1 (all)");
  RequireRange(options.min_p >= 0.0f && options.min_p <= 1.0f, "min-p", options.min_p, "0 to 1");
  if (vocab_size <= 0) throw std::invalid_argument("a sampler needs a vocabulary");
  const auto n = static_cast<size_t>(vocab_size);
  masked_.resize(n, 0);
  for (const TokenId id : never) {
    if (id < 0 || id >= vocab_size) {
      throw std::invalid_argument("masked token " + std::to_string(id) +
                                  " is outside the vocabulary of " + std::to_string(vocab_size));
    }
    masked_[id] = 1;
  }
  candidates_.reserve(n);
  weights_.reserve(n);
  order_.reserve(n);
}

void Sampler::Reseed(uint64_t seed) { generator_.seed(seed); }

TokenId Sampler::Greedy(std::span<const float> logits) const {
  STOKER_CHECK(logits.size() == masked_.size());
  TokenId best = -1;
  float best_logit = -std::numeric_limits<float>::infinity();
  for (size_t id = 0; id < logits.size(); ++id) {
    const float logit = logits[id];
    // One comparison finds NaN and +inf alike.
    if (!(logit <= std::numeric_limits<float>::max())) FailBadLogit(id, logit);
    if (logit > best_logit && masked_[id] == 0) {
      best = static_cast<TokenId>(id);
      best_logit = logit;
    }
  }
  if (best < 0) {
    throw std::runtime_error("no token can be sampled: every logit is masked or -inf");
  }
  return best;
}

TokenId Sampler::Sample(std::span<const float> logits) {
  const TokenId likeliest = Greedy(logits);
  if (options_.temperature == 0.0f || options_.top_k == 1) return likeliest;
  const float max_logit = logits[likeliest];
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (masked_[id] == 0 && logits[id] > -std::numeric_limits<float>::infinity()) {
      candidates_.push_back({static_cast<TokenId>(id), logits[id]});
    }
  }
  if (options_.top_k > 0) KeepTopK(max_logit);
  if (options_.top_p < 1.0f) KeepTopP(max_logit);
  if (options_.min_p > 0.0f) KeepMinP(max_logit);
  return Draw(max_logit);
}

// Whole buckets are kept or dropped unsorted; only the bucket in which the limit falls is ordered.
// Within it the likelier comes first, then the lower id.
void Sampler::KeepPrefix(float max_logit, int cut, size_t keep_of_cut) {
  STOKER_CHECK(keep_of_cut <= order_.size());
  // Marks the dropped ones of the cut bucket, which are at the end of the order.
  for (size_t i = keep_of_cut; i < order_.size(); ++i) candidates_[order_[i]].id = -1;
  std::erase_if(candidates_, [&](const Candidate& c) {
    return c.id < 0 || BucketOf(max_logit - c.logit) > cut;
  });
}

void Sampler::OrderBucket(float max_logit, int bucket) {
  order_.clear();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (BucketOf(max_logit - candidates_[i].logit) == bucket) {
      order_.push_back(static_cast<uint32_t>(i));
    }
  }
  // Candidates are in id order, so their index decides ties as their id would.
  std::sort(order_.begin(), order_.end(), [&](uint32_t a, uint32_t b) {
    const float la = candidates_[a].logit;
    const float lb = candidates_[b].logit;
    return la != lb ? la > lb : a < b;
  });
}

void Sampler::KeepTopK(float max_logit) {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k >= candidates_.size()) return;
  std::array<size_t, kBuckets> counts{};
  for (const Candidate& c : candidates_) ++counts[BucketOf(max_logit - c.logit)];
  int cut = 0;
  size_t kept = 0;
  while (kept + counts[cut] < k) kept += counts[cut++];
  OrderBucket(max_logit, cut);
  KeepPrefix(max_logit, cut, k - kept);
}

void Sampler::KeepTopP(float max_logit) {
  std::array<double, kBuckets> masses{};
  double total = 0.0;
  weights_.clear();
  for (const Candidate& c : candidates_) {
    const double weight = ExpNonPositive(static_cast<double>(c.logit) - max_logit);
    weights_.push_back(weight);
    masses[BucketOf(max_logit - c.logit)] += weight;
    total += weight;
  }
  const double wanted = total * static_cast<double>(options_.top_p);
  int cut = 0;
  double kept = 0.0;
  while (cut + 1 < kBuckets && kept + masses[cut] < wanted) kept += masses[cut++];
  OrderBucket(max_logit, cut);
  size_t keep_of_cut = 0;
  while (keep_of_cut < order_.size() && kept < wanted) kept += weights_[order_[keep_of_cut++]];
  KeepPrefix(max_logit, cut, keep_of_cut);
}

void Sampler::KeepMinP(float max_logit) {
  const double least = static_cast<double>(options_.min_p);
  std::erase_if(candidates_, [&](const Candidate& c) {
    return ExpNonPositive(static_cast<double>(c.logit) - max_logit) < least;
  });
}

TokenId Sampler::Draw(float max_logit) {
  const double inverse_temperature = 1.0 / static_cast<double>(options_.temperature);
  weights_.clear();
  double total = 0.0;
  for (const Candidate& c : candidates_) {
    const double weight =
        ExpNonPositive((static_cast<double>(c.logit) - max_logit) * inverse_temperature);
    weights_.push_back(weight);
    total += weight;
  }
  const double target = NextUniform() * total;
  double sum = 0.0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    sum += weights_[i];
    if (sum > target) return candidates_[i].id;
  }
  // Rounding left the target at the very end: the last candidate with any weight.
  size_t last = weights_.size() - 1;
  while (last > 0 && weights_[last] == 0.0) --last;
  return candidates_[last].id;
}

// Uniform in [0, 1): 53 bits. std::uniform_real_distribution differs between libraries.
double Sampler::NextUniform() {
  return static_cast<double>(generator_() >> 11) * 0x1p-53;
}

}  // namespace stoker
