// The sampler draws from the distribution its options describe, never draws a masked token, and
// repeats itself for a seed.

#include "runtime/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The set of tokens the filters leave and their probabilities, by the definition: sort everything.
std::map<TokenId, double> Expected(const std::vector<float>& logits, const SamplerOptions& o) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
  const double top = logits[ids[0]];
  if (o.top_k > 0 && ids.size() > static_cast<size_t>(o.top_k)) {
    ids.resize(static_cast<size_t>(o.top_k));
  }
  double total = 0;
  for (const TokenId id : ids) total += std::exp(logits[id] - top);
  double mass = 0;
  size_t kept = 0;
  while (kept < ids.size() && mass < total * static_cast<double>(o.top_p)) {
    mass += std::exp(logits[ids[kept++]] - top);
  }
  if (o.top_p < 1) ids.resize(kept);
  while (std::exp(logits[ids.back()] - top) < o.min_p) ids.pop_back();
  std::map<TokenId, double> weights;
  double sum = 0;
  for (const TokenId id : ids) {
    sum += weights[id] = std::exp((logits[id] - top) / static_cast<double>(o.temperature));
  }
  for (auto& [id, weight] : weights) weight /= sum;
  return weights;
}

std::vector<float> RandomLogits(size_t n, uint64_t seed, float spread) {
  std::mt19937_64 random(seed);
  std::vector<float> logits(n);
  for (float& logit : logits) {
    logit = spread * static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 - 0.5);
  }
  return logits;
}

}  // namespace

TEST_CASE("the defaults are the model card's") {
  const SamplerOptions options;
  CHECK(options.temperature == 1.0f);
  CHECK(options.top_p == 0.95f);
  CHECK(options.top_k == 0);
  CHECK(options.min_p == 0.0f);
}

TEST_CASE("temperature 0 and top-k 1 are greedy, ties to the lower id, masked ids left out") {
  const std::vector<float> logits = {1, 3, 2, 3, -kInfinity};
  SamplerOptions options{.temperature = 0};
  CHECK(Sampler(options, 5).Sample(logits) == 1);
  const std::vector<TokenId> never = {1};
  CHECK(Sampler(options, 5, never).Sample(logits) == 3);
  options = {.temperature = 1, .top_k = 1};
  CHECK(Sampler(options, 5).Sample(logits) == 1);
  CHECK(Sampler({}, 5, never).Greedy(logits) == 3);
}

TEST_CASE("draws follow the filtered distribution") {
  const std::vector<SamplerOptions> all = {
      {.top_p = 1},
      {.temperature = 0.7f, .top_p = 1},
      {.temperature = 2.0f, .top_p = 0.9f},
      {.top_p = 0.95f},
      {.top_k = 5, .top_p = 1},
      {.top_k = 20, .top_p = 0.6f},
      {.top_p = 1, .min_p = 0.2f},
      {.temperature = 1.5f, .top_k = 30, .top_p = 0.97f, .min_p = 0.05f},
  };
  constexpr int kDraws = 40000;
  for (const size_t n : {3u, 50u, 1000u}) {
    for (size_t i = 0; i < all.size(); ++i) {
      SamplerOptions options = all[i];
      options.seed = 1000 * n + i;
      CAPTURE(n, i);
      const auto logits = RandomLogits(n, n + i, 8.0f);
      const auto expected = Expected(logits, options);
      std::map<TokenId, int> counts;
      Sampler sampler(options, static_cast<int64_t>(n));
      for (int draw = 0; draw < kDraws; ++draw) ++counts[sampler.Sample(logits)];
      // Nothing outside the set, and every frequency within five standard deviations; the seeds are
      // fixed, so this cannot fail by chance.
      for (const auto& [id, count] : counts) CHECK(expected.contains(id));
      for (const auto& [id, p] : expected) {
        const double deviation = std::sqrt(kDraws * p * (1 - p)) + 1e-9;
        CHECK(std::abs(counts[id] - kDraws * p) <= 5 * deviation + 1);
      }
    }
  }
}

TEST_CASE("equal logits at a limit are kept in id order") {
  const std::vector<float> logits(100, 1.5f);
  for (const SamplerOptions options :
       {SamplerOptions{.top_k = 7, .top_p = 1}, SamplerOptions{.top_p = 0.065f}}) {
    Sampler sampler(options, 100);
    TokenId largest = 0;
    for (int i = 0; i < 500; ++i) largest = std::max(largest, sampler.Sample(logits));
    CHECK(largest == 6);
  }
}

TEST_CASE("a seed gives these ids on every machine") {
  const auto logits = RandomLogits(500, 3, 10.0f);
  Sampler sampler({.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .seed = 42}, 500);
  std::vector<TokenId> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(sampler.Sample(logits));
  const std::vector<TokenId> kStored = {389, 344, 389, 60,  451, 49,
                                        339, 175, 117, 191, 18,  294};
  CHECK(ids == kStored);
  sampler.Reseed(42);
  for (const TokenId id : ids) CHECK(sampler.Sample(logits) == id);
}

TEST_CASE("masked tokens are never drawn") {
  std::vector<TokenId> never;
  for (TokenId id = 0; id < 100; id += 2) never.push_back(id);
  Sampler sampler({.temperature = 5, .top_p = 1}, 100, never);
  std::vector<float> logits(100, 0.0f);
  logits[10] = 50.0f;
  for (int i = 0; i < 2000; ++i) CHECK(sampler.Sample(logits) % 2 == 1);
}

TEST_CASE("damaged logits and bad options are refused with a reason") {
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  const auto sample = [&](std::vector<float> logits, SamplerOptions options) {
    return message([&] { Sampler(options, 3).Sample(logits); });
  };
  for (const float temperature : {0.0f, 1.0f}) {
    const SamplerOptions options{.temperature = temperature};
    CHECK(sample({0, NAN, 0}, options).find("logit of token 1 is NaN") == 0);
    CHECK(sample({0, 0, kInfinity}, options).find("logit of token 2 is infinite") == 0);
    CHECK(sample({-kInfinity, -kInfinity, -kInfinity}, options).find("no token") == 0);
    CHECK(sample({-kInfinity, -3e38f, -kInfinity}, options).empty());
    CHECK(sample({3e38f, -3e38f, 0}, options).empty());
  }
  const auto construct = [&](SamplerOptions options) {
    return message([&] { Sampler(options, 3); });
  };
  CHECK(construct({.temperature = -1}).find("temperature") == 0);
  CHECK(construct({.temperature = NAN}).find("temperature") == 0);
  CHECK(construct({.temperature = kInfinity}).find("temperature") == 0);
  CHECK(construct({.top_k = -1}).find("top-k") == 0);
  CHECK(construct({.top_p = 0}).find("top-p") == 0);
  CHECK(construct({.top_p = 1.5f}).find("top-p") == 0);
  CHECK(construct({.top_p = NAN}).find("top-p") == 0);
  CHECK(construct({.min_p = -0.1f}).find("min-p") == 0);
  const std::vector<TokenId> outside = {3};
  CHECK(message([&] { Sampler({}, 3, outside); }).find("masked token 3") == 0);
}

TEST_CASE("extremes of the options still give a token") {
  const auto logits = RandomLogits(2000, 9, 300.0f);
  const auto best = static_cast<TokenId>(
      std::max_element(logits.begin(), logits.end()) - logits.begin());
  CHECK(Sampler({.temperature = 1e-30f, .top_p = 1}, 2000).Sample(logits) == best);
  CHECK(Sampler({.top_p = 1e-6f}, 2000).Sample(logits) == best);
  CHECK(Sampler({.top_p = 1, .min_p = 1}, 2000).Sample(logits) == best);
  CHECK(Sampler({.top_k = 1 << 30, .top_p = 1e-6f}, 2000).Sample(logits) == best);
  const TokenId any = Sampler({.temperature = 1e30f, .top_p = 1}, 2000).Sample(logits);
  CHECK((any >= 0 && any < 2000));
}

}  // namespace stoker
