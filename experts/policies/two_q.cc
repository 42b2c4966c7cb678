// 2Q: a first-in first-out filter before an LRU list.
//
// Johnson, Shasha: 2Q: a low overhead high performance buffer management replacement algorithm,
// VLDB 1994 (the full version).
// Rule: a new entry enters A1in, a FIFO of `in` of the capacity; hits there change nothing. What
// leaves A1in is remembered by id in A1out, a FIFO of `out` of the capacity. An entry that is
// missed while in A1out enters Am, an LRU list: it was wanted twice, some time apart. The victim is
// the oldest of A1in while that is at or above its share, else the oldest of Am.

#include <algorithm>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class TwoQ final : public CachePolicy {
 public:
  TwoQ(const PolicyConfig& config, double in, double out)
      : lists_(config.n_entries(), 3),
        in_limit_(std::max<uint32_t>(1, static_cast<uint32_t>(in * config.capacity))),
        out_limit_(static_cast<uint32_t>(out * config.capacity)) {}

  void OnAccess(EntryId entry, bool, const AccessContext&) noexcept override {
    if (lists_.ListOf(entry) == kAm) lists_.MoveToFront(kAm, entry);
  }
  void OnInsert(EntryId entry) noexcept override {
    lists_.MoveToFront(lists_.ListOf(entry) == kOut ? kAm : kIn, entry);
  }
  void OnErase(EntryId entry) noexcept override {
    const bool was_in = lists_.ListOf(entry) == kIn;
    lists_.Remove(entry);
    if (!was_in || out_limit_ == 0) return;
    lists_.PushFront(kOut, entry);
    if (lists_.size(kOut) > out_limit_) lists_.Remove(lists_.back(kOut));
  }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    const bool from_in = lists_.size(kIn) >= in_limit_ || lists_.size(kAm) == 0;
    const EntryId entry = lists_.OldestUnpinned(from_in ? kIn : kAm, pinned);
    return entry != kNoEntry ? entry : lists_.OldestUnpinned(from_in ? kAm : kIn, pinned);
  }

 private:
  enum { kIn, kAm, kOut };  // kOut holds ids that are not resident

  EntryLists lists_;
  uint32_t in_limit_;
  uint32_t out_limit_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeTwoQ(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<TwoQ>(config, params.Real("in", 0.25, 0.0, 1.0),
                                params.Real("out", 0.5, 0.0, 8.0));
}

}  // namespace stoker
