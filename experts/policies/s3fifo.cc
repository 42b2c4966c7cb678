// S3-FIFO: three first-in first-out queues.
//
// Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP 2023.
// Rule: a new entry enters S, `small` of the capacity; one whose id is in the ghost queue G enters
// M. A hit raises a counter up to 3. While S is at or above its share its oldest entry is examined:
// used more than once since insertion, it moves to M, else it is the victim and its id enters G
// (as many ids as M may hold). Otherwise the oldest of M is examined: with uses left it loses one
// and goes round again, without it is the victim. Pinned entries are passed over in place.

#include <algorithm>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class S3Fifo final : public CachePolicy {
 public:
  S3Fifo(const PolicyConfig& config, double small)
      : lists_(config.n_entries(), 3),
        uses_(config.n_entries(), 0),
        small_limit_(std::max<uint32_t>(1, static_cast<uint32_t>(small * config.capacity))),
        ghost_limit_(config.capacity - std::min(config.capacity, small_limit_)) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (hit && uses_[entry] < 3) ++uses_[entry];
  }
  void OnInsert(EntryId entry) noexcept override {
    uses_[entry] = 0;
    lists_.MoveToFront(lists_.ListOf(entry) == kGhost ? kMain : kSmall, entry);
  }
  void OnErase(EntryId entry) noexcept override {
    const bool was_small = lists_.ListOf(entry) == kSmall;
    lists_.Remove(entry);
    if (!was_small || ghost_limit_ == 0) return;
    lists_.PushFront(kGhost, entry);
    if (lists_.size(kGhost) > ghost_limit_) lists_.Remove(lists_.back(kGhost));
  }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    // Each turn moves an entry out of S for good or takes one use away, so this ends.
    while (true) {
      const bool small_first = lists_.size(kSmall) >= small_limit_ || lists_.size(kMain) == 0;
      int list = small_first ? kSmall : kMain;
      EntryId entry = lists_.OldestUnpinned(list, pinned);
      if (entry == kNoEntry) {
        list = small_first ? kMain : kSmall;
        entry = lists_.OldestUnpinned(list, pinned);
      }
      if (entry == kNoEntry) return kNoEntry;
      if (list == kSmall) {
        if (uses_[entry] <= 1) return entry;
        uses_[entry] = 0;
        lists_.MoveToFront(kMain, entry);
      } else {
        if (uses_[entry] == 0) return entry;
        --uses_[entry];
        lists_.MoveToFront(kMain, entry);
      }
    }
  }

 private:
  enum { kSmall, kMain, kGhost };  // kGhost holds ids that are not resident

  EntryLists lists_;
  std::vector<uint8_t> uses_;  // [n_entries] 0..3
  uint32_t small_limit_;
  uint32_t ghost_limit_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeS3Fifo(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<S3Fifo>(config, params.Real("small", 0.1, 0.0, 1.0));
}

}  // namespace stoker
