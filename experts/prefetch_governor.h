#pragma once

// Decides whether reads on speculation pay, from what the earlier ones were worth. Pure: bytes in,
// a yes or no out; owned by the expert cache, engine-thread only. It does not choose what to read.
//
// The account is kept in bytes of disk time. What had arrived before an expert was asked for is
// gained: the engine did not wait for it. What a wrong guess had in flight when demanded reads were
// submitted is lost: they stood in line behind it. Both fade, so the balance follows the text being
// generated. While it is negative nothing is read on speculation, but for a trial now and then; a
// trial that loses doubles the pause before the next.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace stoker {

enum class PrefetchMode : uint8_t { kOff, kOn, kAuto };

std::string_view PrefetchModeName(PrefetchMode mode);  // "off", "on", "auto"
std::optional<PrefetchMode> PrefetchModeFromName(std::string_view name);

// How often the guesses of a layer's experts were right.
struct GuessAccuracy {
  uint64_t guessed = 0;
  uint64_t right = 0;
  // Of the first guess, made before the layer's attention.
  uint64_t early_guessed = 0;
  uint64_t early_right = 0;
};

class PrefetchGovernor {
 public:
  PrefetchGovernor(PrefetchMode mode, int32_t n_layers);

  // Whether to read on speculation now.
  bool Allows() const;

  // An expert read ahead was asked for, `bytes` of it were there.
  void OnUsed(uint64_t bytes);
  // A demanded read had to wait for `bytes` nobody asked for.
  void OnDelayed(uint64_t bytes);
  // A request of `layer` is known, and how good the guesses were; zeros when there were none.
  void OnRequest(int32_t layer, const GuessAccuracy& guesses);

  const std::vector<GuessAccuracy>& accuracy() const { return accuracy_; }  // [n_layers]
  double balance() const { return balance_; }
  uint64_t resting_requests() const { return resting_; }  // in which it did not allow reads

 private:
  const PrefetchMode mode_;
  std::vector<GuessAccuracy> accuracy_;
  double balance_ = 0.0;
  uint64_t pause_;  // requests without reads after the next trial that loses
  uint64_t pause_left_ = 0;
  uint64_t trial_left_ = 0;  // requests for which a negative balance is overlooked
  uint64_t resting_ = 0;
};

}  // namespace stoker
