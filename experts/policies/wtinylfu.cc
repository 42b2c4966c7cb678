// W-TinyLFU: a small recency window before a main part that admits by frequency.
//
// Einziger, Friedman, Manes: TinyLFU: a highly efficient cache admission policy, ACM Transactions
// on Storage 13(4), 2017.
// Rule: a new entry enters an LRU window of `window` of the capacity, of top_k entries at least.
// What the window overflows by is a candidate for main, an SLRU with `protected` protected. The
// candidate and the victim of main duel: the one with the lower frequency leaves (the candidate on
// a tie). There is no duel while the cache has free slots. Frequencies are counted for all entries
// and halved after `sample` * capacity accesses.
// Pinned entries do not duel. Where only they are left in the window it grows beyond its share, at
// the cost of main. Later the rarest of its overflow duels, and of the others those that are more
// frequent than main's victim take main's room (all, when nothing is on probation). So newcomers
// never push each other into main.
// The paper sketches the counters because it has millions of keys; a model has thousands of
// experts, so here they are exact.

#include <algorithm>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

// A window smaller than what one request brings would have it pinned when its next expert needs a
// slot, and main would give one without a duel, each time.
uint32_t WindowLimit(const PolicyConfig& config, double window) {
  const auto share = static_cast<uint32_t>(window * config.capacity);
  return std::min(config.capacity, std::max(share, static_cast<uint32_t>(config.top_k)));
}

class WTinyLfu final : public CachePolicy {
 public:
  WTinyLfu(const PolicyConfig& config, double window, double share, double sample)
      : lists_(config.n_entries(), 3),
        frequency_(config.n_entries(), 0),
        window_limit_(WindowLimit(config, window)),
        main_limit_(config.capacity - window_limit_),
        protected_limit_(static_cast<uint32_t>(share * main_limit_)),
        sample_limit_(static_cast<uint64_t>(sample * config.capacity) + 1) {
    winners_.reserve(config.n_entries());
  }

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
    lists_.MoveToFront(kWindow, entry);
    if (n_vacated_ > 0) {
      --n_vacated_;  // The duel for this slot is over.
    } else if (lists_.size(kWindow) > window_limit_) {
      lists_.MoveToFront(kProbation, lists_.back(kWindow));
    }
  }
  void OnErase(EntryId entry) noexcept override {
    for (const EntryId winner : winners_) lists_.MoveToFront(kProbation, winner);
    winners_.clear();
    n_vacated_ += entry == named_ ? 1 : 0;
    named_ = kNoEntry;
    lists_.Remove(entry);
  }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    winners_.clear();
    named_ = Duel(pinned);
    return named_;
  }

 private:
  enum { kWindow, kProbation, kProtected };

  // Who leaves, and in winners_ who enters main when that happens.
  EntryId Duel(PinnedView pinned) noexcept {
    const uint32_t n_main = lists_.size(kProbation) + lists_.size(kProtected);
    const bool open = lists_.size(kProbation) == 0 && n_main < main_limit_;
    EntryId main = lists_.OldestUnpinned(kProbation, pinned);
    if (main == kNoEntry && !open) main = lists_.OldestUnpinned(kProtected, pinned);
    EntryId rarest = kNoEntry;
    uint32_t n_window = lists_.size(kWindow) + 1;  // with the incoming entry
    for (EntryId candidate = lists_.back(kWindow);
         candidate != kNoEntry && n_window > window_limit_; candidate = lists_.Newer(candidate)) {
      if (pinned[candidate] != 0) continue;
      --n_window;
      if (rarest == kNoEntry || frequency_[candidate] < frequency_[rarest]) rarest = candidate;
      const bool wins = main != kNoEntry && frequency_[candidate] > frequency_[main];
      if (wins || open) winners_.push_back(candidate);  // Within the reservation.
    }
    const bool has_lost =
        rarest != kNoEntry && (main == kNoEntry || frequency_[rarest] <= frequency_[main]);
    if (has_lost) return rarest;
    if (main == kNoEntry) main = lists_.OldestUnpinned(kProtected, pinned);
    return main != kNoEntry ? main : lists_.OldestUnpinned(kWindow, pinned);
  }

  EntryLists lists_;
  std::vector<uint32_t> frequency_;  // [n_entries], of resident and absent entries
  uint32_t window_limit_;
  uint32_t main_limit_;
  uint32_t protected_limit_;
  uint64_t sample_limit_;
  uint64_t sampled_ = 0;
  std::vector<EntryId> winners_;  // of the window, by the last Victim, oldest first
  EntryId named_ = kNoEntry;      // by the last Victim
  uint32_t n_vacated_ = 0;        // slots that named victims left and nobody took yet
};

}  // namespace

std::unique_ptr<CachePolicy> MakeWTinyLfu(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<WTinyLfu>(config, params.Real("window", 0.01, 0.0, 1.0),
                                    params.Real("protected", 0.8, 0.0, 1.0),
                                    params.Real("sample", 10, 1, 1e6));
}

}  // namespace stoker
