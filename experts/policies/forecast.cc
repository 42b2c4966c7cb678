// Forecast: learns, while running, how likely each expert is to be used at the next visit of its
// layer, and gives up the one whose stay pays least.
//
// After Song, Berger, Li, Lloyd: Learning relaxed Belady for content distribution network caching,
// NSDI 2020 (predict the next use from recency and frequency), and Beckmann, Chen, Cidon: LHD,
// NSDI 2018 (hits gained per time a slot is held). The layer cycle is ours: a layer comes round
// once per forward pass, so between two visits an expert's chance does not change, only the wait.
// Rule: p(e) = logistic(w . x(e)), x = uses counted with three half-lives, recency, and what the
// router thought of e at the last visit; w is shared by all layers and corrected after each decode
// visit of a layer by its n_experts outcomes (AdaGrad: Duchi, Hazan, Singer, JMLR 12, 2011).
// soon(e) corrects p(e) by which experts used to follow those of the layer's last visit, with a
// weight that is learned too. It says something about the next visit only; what a slot is worth
// beyond grows with p(e), but less than in proportion, because it can be given up any time.
// The victim has the lowest soon(e) + sqrt(p(e)) - price * d(e): d(e) in (0, 1] is the part of a
// pass until its layer is next visited, and the price of a slot for one pass is half of the
// capacity-th greatest p, times 1 + 200 / visits: while little is known of p, the wait counts more.
// These forms did best of those tried (docs/policies.md).
// So below one token cycle it keeps what is due soon, and above it it is neither LRU nor LFU but
// what the trace teaches. One update costs n_experts * 10 multiplications per layer; pairs take
// n_experts floats per expert, and are left out where that would be more than 64 MiB.

#include <algorithm>
#include <array>
#include <cmath>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

constexpr int kFeatures = 10;
using Features = std::array<float, kFeatures>;

// Start weights: between what the five synthetic kinds of docs/policies.md converge to (training
// seed 1). They matter for the first few tokens only.
constexpr Features kStartWeights = {-0.3F, 0.1F,  0.1F, 0.45F, 1.0F,
                                    0.15F, 0.05F, 0.5F, -0.8F, 0.17F};
constexpr float kMaxWeight = 20.0F;
// Keeps logarithms of counts finite; a tenth of a use in the longest half-life.
constexpr float kCountFloor = 0.003F;
constexpr float kShortHalfLife = 3.0F;    // visits
constexpr float kMiddleHalfLife = 20.0F;  // visits
constexpr float kFewVisits = 200.0F;      // that chances are learned in
constexpr uint32_t kNeverUsed = 64;       // recency at the start; only its logarithm is used
// How many visits the long average counts as, where pairs are counted.
constexpr float kPairPrior = 40.0F;
constexpr uint64_t kMostPairs = uint64_t{1} << 24;  // of all policies of one cache
constexpr float kMaxFollowWeight = 3.0F;
// Log scores are bounded so that a saturated softmax does not swamp the rest.
constexpr float kMinLogScore = -6.0F;
constexpr float kMaxLogScore = 3.0F;

float DecayOf(float half_life) { return std::exp2(-1.0F / half_life); }

class Forecast final : public CachePolicy {
 public:
  Forecast(const PolicyConfig& config, float rate, float long_half_life, bool use_hints)
      : n_layers_(config.n_layers),
        n_experts_(config.n_experts),
        top_k_(config.top_k),
        capacity_(config.capacity),
        rate_(rate),
        short_decay_(DecayOf(kShortHalfLife)),
        middle_decay_(DecayOf(kMiddleHalfLife)),
        long_decay_(DecayOf(long_half_life)),
        use_hints_(use_hints),
        start_(std::min(0.9F, static_cast<float>(config.top_k) / config.n_experts)),
        stats_(config.n_entries(), Statistics{start_, start_, start_, 0, 0, 0, kNeverUsed}),
        x_(config.n_entries()),
        chance_(config.n_entries(), start_),
        sorted_(config.n_entries()),
        visits_(config.n_layers, 0),
        used_(config.n_experts, 0),
        score_(config.n_experts, 0.0F),
        unlisted_(config.n_experts, 0),
        pairs_(uint64_t{config.n_entries()} * config.n_experts * config.n_policies <= kMostPairs),
        followed_(pairs_ ? size_t{config.n_entries()} * config.n_experts : 0, 0.0F),
        n_followed_(config.n_entries(), 0.0F),
        last_used_(config.n_layers),
        follows_(config.n_entries(), 0.0F),
        soon_(config.n_entries(), start_),
        weights_(kStartWeights),
        resident_(config.n_entries()) {
    squares_.fill(1.0F);
    for (std::vector<int32_t>& last : last_used_) last.reserve(2 * top_k_);
  }

  void OnRouterHint(int32_t layer, std::span<const RouterChoice> choices) noexcept override {
    if (!use_hints_ || choices.size() < static_cast<size_t>(top_k_)) return;
    FinishVisit();
    hint_layer_ = layer;
    // Relative to the last expert that ran: 0 = just made it, negative = runner-up. For those not
    // listed the last of the list is an upper bound.
    const float reference = choices[top_k_ - 1].weight;
    std::fill(score_.begin(), score_.end(), LogRatio(choices.back().weight, reference));
    std::fill(unlisted_.begin(), unlisted_.end(), 1);
    for (const RouterChoice& choice : choices) {
      if (choice.expert >= n_experts_) continue;
      score_[choice.expert] = LogRatio(choice.weight, reference);
      unlisted_[choice.expert] = 0;
    }
  }

  void OnAccess(EntryId entry, bool /*hit*/, const AccessContext& context) noexcept override {
    const int64_t pass = clock_.Observe(context);
    const auto layer = static_cast<int32_t>(entry / n_experts_);
    if (!visiting_ || pass != pass_ || layer != layer_) {
      FinishVisit();
      if (pass != pass_) SetPrice();
      pass_ = pass;
      layer_ = layer;
      visiting_ = true;
      decoding_ = context.phase == Phase::kDecode;
    }
    uint8_t& used = used_[entry % n_experts_];
    n_used_ += used == 0 ? 1 : 0;
    used = 1;
    stats_[entry].gate = std::isfinite(context.gate_weight) ? context.gate_weight : 0.0F;
  }

  void OnInsert(EntryId entry) noexcept override { resident_.Add(entry); }
  void OnErase(EntryId entry) noexcept override { resident_.Drop(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    return resident_.LowestUnpinned(pinned, [this](EntryId entry) { return Worth(entry); });
  }

 private:
  struct Statistics {
    float short_count, middle_count, long_count;  // uses per visit, decaying
    float gate;                                   // weight at the last use
    float score;      // log router score at the last visit, relative to the last that ran
    float unlisted;   // 1 = the score is an upper bound
    uint32_t missed;  // visits of its layer since its last use; 0 = used at the last
  };

  static float LogRatio(float weight, float reference) {
    const float ratio = std::log(std::max(weight, 1e-9F)) - std::log(std::max(reference, 1e-9F));
    return std::isfinite(ratio) ? std::clamp(ratio, kMinLogScore, kMaxLogScore) : 0.0F;
  }

  float Worth(EntryId entry) const noexcept {
    const int32_t wait = LayersUntil(static_cast<int32_t>(entry / n_experts_), layer_, n_layers_);
    return soon_[entry] + std::sqrt(chance_[entry]) -
           price_ * static_cast<float>(wait) / static_cast<float>(n_layers_);
  }

  static Features FeaturesOf(const Statistics& s) {
    return {1.0F,
            std::log(s.short_count + kCountFloor),
            std::log(s.middle_count + kCountFloor),
            std::log(s.long_count + kCountFloor),
            s.missed == 0 ? 1.0F : 0.0F,
            s.missed == 1 ? 1.0F : 0.0F,
            std::log1p(static_cast<float>(s.missed)),
            s.missed == 0 ? s.gate - 0.5F : 0.0F,
            s.unlisted,
            s.score};
  }

  static float Logistic(float x) { return 1.0F / (1.0F + std::exp(-x)); }
  float Logit(const Features& x) const {
    float sum = 0.0F;
    for (int f = 0; f < kFeatures; ++f) sum += x[f] * weights_[f];
    return sum;
  }

  // The visit of `layer_` is over: learns from it, then forecasts the layer's next visit.
  void FinishVisit() noexcept {
    if (!visiting_) return;
    visiting_ = false;
    const EntryId first = static_cast<EntryId>(layer_) * n_experts_;
    if (decoding_ && visits_[layer_] > 0) Learn(first);
    ++visits_[layer_];
    // A prefill request uses nearly all experts, which says nothing about any of them.
    const float weight =
        std::min(1.0F, static_cast<float>(top_k_) / static_cast<float>(std::max(1, n_used_)));
    // A plain average at first, so that the long count does not remember its start value.
    const float long_gain =
        std::max(1.0F / static_cast<float>(visits_[layer_] + 4), 1.0F - long_decay_);
    const bool hinted = hint_layer_ == layer_;
    LearnPairs(first);
    for (int32_t i = 0; i < n_experts_; ++i) {
      Statistics& s = stats_[first + i];
      const float use = used_[i] * weight;
      s.short_count += (1.0F - short_decay_) * (use - s.short_count);
      s.middle_count += (1.0F - middle_decay_) * (use - s.middle_count);
      s.long_count += long_gain * (use - s.long_count);
      s.missed = used_[i] != 0 ? 0 : s.missed + 1;
      s.score = hinted ? score_[i] : 0.0F;
      s.unlisted = hinted ? unlisted_[i] : 0.0F;
      x_[first + i] = FeaturesOf(s);
      const float logit = Logit(x_[first + i]);
      follows_[first + i] = Follows(first, i);
      chance_[first + i] = Logistic(logit);
      soon_[first + i] = Logistic(logit + follow_weight_ * follows_[first + i]);
    }
    std::fill(used_.begin(), used_.end(), 0);
    n_used_ = 0;
    hint_layer_ = -1;
  }

  // Counts which experts came after which, from one visit of the layer to its next.
  void LearnPairs(EntryId first) noexcept {
    std::vector<int32_t>& last = last_used_[static_cast<size_t>(layer_)];
    const bool single = pairs_ && decoding_ && n_used_ <= 2 * top_k_;  // not a whole batch
    if (single) {
      for (const int32_t before : last) {
        ++n_followed_[first + before];
        float* const row = followed_.data() + static_cast<size_t>(first + before) * n_experts_;
        for (int32_t i = 0; i < n_experts_; ++i) row[i] += used_[i];
      }
    }
    last.clear();
    if (!single) return;
    for (int32_t i = 0; i < n_experts_; ++i) {
      if (used_[i] != 0) last.push_back(i);
    }
  }

  // Of expert i after the layer's last visit, against its long average.
  float Follows(EntryId first, int32_t i) const {
    const std::vector<int32_t>& last = last_used_[static_cast<size_t>(layer_)];
    if (last.empty()) return 0.0F;
    const float base = stats_[first + i].long_count + kCountFloor;
    float chance = 0.0F;
    for (const int32_t before : last) {
      const float seen = followed_[static_cast<size_t>(first + before) * n_experts_ + i];
      chance += (seen + kPairPrior * base) / (n_followed_[first + before] + kPairPrior);
    }
    return std::log(chance / (static_cast<float>(last.size()) * base));
  }

  // One step down the gradient of the log loss over the layer's experts.
  void Learn(EntryId first) noexcept {
    Features gradient{};
    float follow_gradient = 0.0F;
    for (int32_t i = 0; i < n_experts_; ++i) {
      const Features& x = x_[first + i];
      const float logit = Logit(x);
      const float error = Logistic(logit) - used_[i];
      for (int f = 0; f < kFeatures; ++f) gradient[f] += error * x[f];
      follow_gradient += (Logistic(logit + follow_weight_ * follows_[first + i]) - used_[i]) *
                         follows_[first + i];
    }
    follow_squares_ += follow_gradient * follow_gradient;
    follow_weight_ =
        std::clamp(follow_weight_ - rate_ * follow_gradient / std::sqrt(follow_squares_), 0.0F,
                   kMaxFollowWeight);
    for (int f = 0; f < kFeatures; ++f) {
      squares_[f] += gradient[f] * gradient[f];
      weights_[f] = std::clamp(weights_[f] - rate_ * gradient[f] / std::sqrt(squares_[f]),
                               -kMaxWeight, kMaxWeight);
    }
  }

  void SetPrice() noexcept {
    if (capacity_ >= chance_.size()) return;
    std::copy(chance_.begin(), chance_.end(), sorted_.begin());
    std::nth_element(sorted_.begin(), sorted_.begin() + capacity_, sorted_.end(), std::greater<>());
    const float visits = static_cast<float>(visits_[layer_]) + 1.0F;
    price_ = sorted_[capacity_] / 2.0F * (1.0F + kFewVisits / visits);
  }

  int32_t n_layers_;
  int32_t n_experts_;
  int32_t top_k_;
  uint32_t capacity_;
  float rate_;
  float short_decay_;
  float middle_decay_;
  float long_decay_;
  bool use_hints_;
  float start_;                    // what any expert's chance is when nothing is known
  std::vector<Statistics> stats_;  // [n_entries]
  std::vector<Features> x_;        // [n_entries] what chance_ was computed from
  std::vector<float> chance_;      // [n_entries] of use at the layer's next visit
  std::vector<float> sorted_;      // [n_entries] scratch
  std::vector<int32_t> visits_;    // [n_layers]
  std::vector<uint8_t> used_;      // [n_experts] in the visit under way
  std::vector<float> score_;  // [n_experts] of the visit under way, when hint_layer_ is its layer
  std::vector<uint8_t> unlisted_;  // [n_experts] same
  bool pairs_;                     // whether they are counted
  std::vector<float> followed_;    // [n_entries, n_experts] uses at the visit after an entry's
  std::vector<float> n_followed_;  // [n_entries] visits that had one after
  std::vector<std::vector<int32_t>> last_used_;  // [n_layers] experts of the last visit
  std::vector<float> follows_;  // [n_entries] see Follows
  std::vector<float> soon_;     // [n_entries] chance_ corrected by it
  float follow_weight_ = 0.0F;
  float follow_squares_ = 1.0F;
  Features weights_;
  Features squares_;  // sums of squared gradients
  ResidentSet resident_;
  PassClock clock_;
  int64_t pass_ = 0;
  int32_t layer_ = 0;  // visited now or last
  int32_t hint_layer_ = -1;
  int32_t n_used_ = 0;
  bool visiting_ = false;
  bool decoding_ = false;
  float price_ = 0.0F;  // of one slot for one pass, in uses
};

}  // namespace

std::unique_ptr<CachePolicy> MakeForecast(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<Forecast>(config, static_cast<float>(params.Real("rate", 0.3, 0.0, 10.0)),
                                    static_cast<float>(params.Real("half_life", 200, 1.0, 1e6)),
                                    params.Integer("hints", 1, 0, 1) != 0);
}

}  // namespace stoker
