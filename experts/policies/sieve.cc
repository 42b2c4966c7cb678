// SIEVE: lazy promotion, quick demotion, one hand.
//
// Zhang, Yang, Yue, Vigfusson, Rashmi: SIEVE is simpler than LRU: an efficient turn-key eviction
// algorithm for web caches, NSDI 2024.
// Rule: entries stay in the order of insertion; a hit sets a bit and moves nothing. A hand walks
// from old to young and wraps: it clears set bits and stops at the first entry without one, the
// victim; the next search goes on from there. So survivors are not mixed with newcomers, which
// are examined soon and leave quickly. Pinned entries are passed over without clearing their bit.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Sieve final : public CachePolicy {
 public:
  explicit Sieve(const PolicyConfig& config)
      : lists_(config.n_entries(), 1), visited_(config.n_entries(), 0) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (hit) visited_[entry] = 1;
  }
  void OnInsert(EntryId entry) noexcept override {
    visited_[entry] = 0;
    lists_.MoveToFront(0, entry);
  }
  void OnErase(EntryId entry) noexcept override {
    if (hand_ == entry) hand_ = lists_.Newer(entry);
    lists_.Remove(entry);
  }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    // Two rounds clear every unpinned bit and then meet one such entry, if there is any.
    const uint32_t limit = 2 * lists_.size(0);
    for (uint32_t step = 0; step < limit; ++step) {
      if (hand_ == kNoEntry) hand_ = lists_.back(0);
      if (pinned[hand_] == 0) {
        if (visited_[hand_] == 0) return hand_;
        visited_[hand_] = 0;
      }
      hand_ = lists_.Newer(hand_);
    }
    return kNoEntry;
  }

 private:
  EntryLists lists_;
  std::vector<uint8_t> visited_;  // [n_entries]
  EntryId hand_ = kNoEntry;       // kNoEntry = start at the oldest
};

}  // namespace

std::unique_ptr<CachePolicy> MakeSieve(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<Sieve>(config);
}

}  // namespace stoker
