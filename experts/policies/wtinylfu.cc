// W-TinyLFU: a small recency window before a main part that admits by frequency.
//
// Einziger, Friedman, Manes: TinyLFU: a highly efficient cache admission policy, ACM Transactions
// on Storage 13(4), 2017.
// Rule: a new entry enters an LRU window of `window` of the capacity; what the window overflows by
// is a candidate for main, an SLRU with `protected` protected. The candidate and the victim of main
// duel: the one with the lower frequency leaves (the candidate on a tie). Frequencies are counted
// for all entries and halved after `sample` * capacity accesses.
// The paper sketches the counters because it has millions of keys; a model has thousands of
// experts, so here they are exact.

#include <algorithm>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class WTinyLfu final : public CachePolicy {
 public:
  WTinyLfu(const PolicyConfig& config, double window, double share, double sample)
      : lists_(config.n_entries(), 3),
        frequency_(config.n_entries(), 0),
        window_limit_(std::max<uint32_t>(1, static_cast<uint32_t>(window * config.capacity))),
        protected_limit_(static_cast<uint32_t>(
            share * (config.capacity - std::min(config.capacity, window_limit_)))),
        sample_limit_(static_cast<uint64_t>(sample * config.capacity) + 1) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    ++frequency_[entry];
    if (++sampled_ >= sample_limit_) {
      for (uint32_t& frequency : frequency_) frequency /= 2;
      sampled_ /= 2;
    }
    if (!hit) return;
    if (lists_.ListOf(entry) == kWindow) {
      lists_.MoveToFront(kWindow, entry);
      return;
    }
    lists_.MoveToFront(kProtected, entry);
    if (lists_.size(kProtected) > protected_limit_) {
      lists_.MoveToFront(kProbation, lists_.back(kProtected));
    }
  }
  void OnInsert(EntryId entry) noexcept override {
    // While there is room in the cache the window's overflow is admitted without a duel.
    lists_.MoveToFront(kWindow, entry);
    if (lists_.size(kWindow) > window_limit_) {
      lists_.MoveToFront(kProbation, lists_.back(kWindow));
    }
  }
  void OnErase(EntryId entry) noexcept override { lists_.Remove(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    EntryId main = lists_.OldestUnpinned(kProbation, pinned);
    if (main == kNoEntry) main = lists_.OldestUnpinned(kProtected, pinned);
    const EntryId candidate = lists_.OldestUnpinned(kWindow, pinned);
    if (main == kNoEntry) return candidate;
    // The incoming entry will push the window over its share: its oldest is the candidate.
    if (candidate == kNoEntry || lists_.size(kWindow) < window_limit_) return main;
    return frequency_[candidate] > frequency_[main] ? main : candidate;
  }

 private:
  enum { kWindow, kProbation, kProtected };

  EntryLists lists_;
  std::vector<uint32_t> frequency_;  // [n_entries], of resident and absent entries
  uint32_t window_limit_;
  uint32_t protected_limit_;
  uint64_t sample_limit_;
  uint64_t sampled_ = 0;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeWTinyLfu(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<WTinyLfu>(config, params.Real("window", 0.01, 0.0, 1.0),
                                    params.Real("protected", 0.8, 0.0, 1.0),
                                    params.Real("sample", 10, 1, 1e6));
}

}  // namespace stoker
