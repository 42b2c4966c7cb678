#include "experts/prefetch_governor.h"

#include <algorithm>

namespace stoker {
namespace {

// Requests over which a gain or loss fades to half: a token or two of M1's 80 layers.
constexpr double kHalfLifeRequests = 128.0;
constexpr double kFade = 1.0 - 0.6931 / kHalfLifeRequests;
constexpr uint64_t kTrialRequests = 32;
constexpr uint64_t kFirstPause = 64;
constexpr uint64_t kLongestPause = 8192;  // a hundred tokens of M1: one trial costs below 1 %

}  // namespace

std::string_view PrefetchModeName(PrefetchMode mode) {
  switch (mode) {
    case PrefetchMode::kOff:
      return "off";
    case PrefetchMode::kOn:
      return "on";
    case PrefetchMode::kAuto:
      return "auto";
  }
  return "?";
}

std::optional<PrefetchMode> PrefetchModeFromName(std::string_view name) {
  for (const PrefetchMode mode : {PrefetchMode::kOff, PrefetchMode::kOn, PrefetchMode::kAuto}) {
    if (PrefetchModeName(mode) == name) return mode;
  }
  return std::nullopt;
}

PrefetchGovernor::PrefetchGovernor(PrefetchMode mode, int32_t n_layers)
    : mode_(mode),
      accuracy_(static_cast<size_t>(n_layers)),
      pause_(kFirstPause),
      trial_left_(kTrialRequests) {}

bool PrefetchGovernor::Allows() const {
  return mode_ == PrefetchMode::kOn || (mode_ == PrefetchMode::kAuto && pause_left_ == 0);
}

void PrefetchGovernor::OnUsed(uint64_t bytes) { balance_ += static_cast<double>(bytes); }
void PrefetchGovernor::OnDelayed(uint64_t bytes) { balance_ -= static_cast<double>(bytes); }

void PrefetchGovernor::OnRequest(int32_t layer, const GuessAccuracy& guesses) {
  GuessAccuracy& sum = accuracy_[static_cast<size_t>(layer)];
  sum.guessed += guesses.guessed;
  sum.right += guesses.right;
  sum.early_guessed += guesses.early_guessed;
  sum.early_right += guesses.early_right;
  if (mode_ != PrefetchMode::kAuto) return;  // Nobody asks for the account.
  if (pause_left_ > 0) {
    ++resting_;
    if (--pause_left_ == 0) {
      balance_ = 0.0;
      trial_left_ = kTrialRequests;
    }
    return;
  }
  if (trial_left_ > 0) {
    --trial_left_;
    return;
  }
  if (balance_ < 0.0) {
    pause_left_ = pause_;
    pause_ = std::min(2 * pause_, kLongestPause);
    return;
  }
  if (balance_ > 0.0) pause_ = kFirstPause;
  balance_ *= kFade;
}

}  // namespace stoker
