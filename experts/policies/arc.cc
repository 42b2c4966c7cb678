// ARC: adaptive replacement cache.
//
// Megiddo, Modha: ARC: a self-tuning, low overhead replacement cache, FAST 2003.
// Rule: T1 holds entries used once lately, T2 those used at least twice, both LRU; B1 and B2
// remember the ids that left them, all four together at most twice the capacity. A miss found in B1
// raises the target size p of T1, one found in B2 lowers it, by the ratio of the two histories, and
// the entry enters T2. The victim is the back of T1 while T1 is above p (or at p, when the incoming
// entry is in B2), else the back of T2. Pinned entries are passed over, then the other list serves.

#include <algorithm>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Arc final : public CachePolicy {
 public:
  explicit Arc(const PolicyConfig& config)
      : lists_(config.n_entries(), 4), capacity_(config.capacity) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (hit) {
      lists_.MoveToFront(kT2, entry);
      return;
    }
    const double b1 = std::max<uint32_t>(1, lists_.size(kB1));
    const double b2 = std::max<uint32_t>(1, lists_.size(kB2));
    if (lists_.ListOf(entry) == kB1) {
      target_ = std::min<double>(capacity_, target_ + std::max(1.0, b2 / b1));
    } else if (lists_.ListOf(entry) == kB2) {
      target_ = std::max(0.0, target_ - std::max(1.0, b1 / b2));
    }
  }
  void OnInsert(EntryId entry) noexcept override {
    const uint8_t list = lists_.ListOf(entry);
    lists_.MoveToFront(list == kB1 || list == kB2 ? kT2 : kT1, entry);
    TrimHistory();
  }
  void OnErase(EntryId entry) noexcept override {
    const uint8_t list = lists_.ListOf(entry);
    if (list == kT1) lists_.MoveToFront(kB1, entry);
    if (list == kT2) lists_.MoveToFront(kB2, entry);
    TrimHistory();
  }
  EntryId Victim(EntryId incoming, PinnedView pinned) noexcept override {
    const double t1 = lists_.size(kT1);
    const bool in_b2 = incoming != kNoEntry && lists_.ListOf(incoming) == kB2;
    const bool from_t1 = t1 >= 1 && (t1 > target_ || (t1 >= target_ && in_b2));
    const EntryId entry = lists_.OldestUnpinned(from_t1 ? kT1 : kT2, pinned);
    return entry != kNoEntry ? entry : lists_.OldestUnpinned(from_t1 ? kT2 : kT1, pinned);
  }

 private:
  enum { kT1, kT2, kB1, kB2 };

  // |T1| + |B1| <= capacity and all four <= 2 * capacity (the paper's invariants).
  void TrimHistory() noexcept {
    while (lists_.size(kB1) > 0 && lists_.size(kT1) + lists_.size(kB1) > capacity_) {
      lists_.Remove(lists_.back(kB1));
    }
    while (lists_.size(kB2) > 0 &&
           lists_.size(kT1) + lists_.size(kT2) + lists_.size(kB1) + lists_.size(kB2) >
               2 * capacity_) {
      lists_.Remove(lists_.back(kB2));
    }
  }

  EntryLists lists_;
  uint32_t capacity_;
  double target_ = 0.0;  // p: wanted size of T1
};

}  // namespace

std::unique_ptr<CachePolicy> MakeArc(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<Arc>(config);
}

}  // namespace stoker
