// LFU with ageing: least frequently used, old uses counting for less.
//
// Robinson, Devarakonda: Data cache management using frequency-based replacement, SIGMETRICS 1990;
// the exponential form is LRFU (Lee et al., IEEE Trans. Computers 50(12), 2001) with a half-life.
// Rule: every entry has a count, also while it is not resident. A use adds 1; counts halve every
// `half_life` forward passes. The victim is the unpinned entry with the lowest count.
// The count at pass t is 2^(key - t / half_life) with key = log2 of the count at pass 0: ageing
// scales all counts alike, so keys change on use only and comparing keys compares counts.

#include <cmath>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Lfu final : public CachePolicy {
 public:
  Lfu(const PolicyConfig& config, double half_life)
      : half_life_(half_life), key_(config.n_entries(), kNever), resident_(config.n_entries()) {}

  void OnAccess(EntryId entry, bool, const AccessContext& context) noexcept override {
    const double now = static_cast<double>(clock_.Observe(context)) / half_life_;
    key_[entry] = now + std::log2(1.0 + std::exp2(key_[entry] - now));
  }
  void OnInsert(EntryId entry) noexcept override { resident_.Add(entry); }
  void OnErase(EntryId entry) noexcept override { resident_.Drop(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    return resident_.LowestUnpinned(pinned, [this](EntryId entry) { return key_[entry]; });
  }

 private:
  static constexpr double kNever = -1e9;  // exp2 of it is 0

  double half_life_;         // passes
  std::vector<double> key_;  // [n_entries] log2 of the aged count, referred to pass 0
  ResidentSet resident_;
  PassClock clock_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeLfu(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<Lfu>(config, params.Real("half_life", 128, 0.5, 1e9));
}

}  // namespace stoker
