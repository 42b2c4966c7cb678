// LFRU: least frequent, recently used.
//
// Bilal, Kang: A cache management scheme for efficient content eviction and replication in cache
// networks, IEEE Access 5, 2017.
// Rule: two partitions. A new entry goes to the unprivileged one, which is ordered by the number
// of uses since it was inserted. A hit there moves the entry to the privileged one, which is LRU
// and holds `privileged` of the capacity; what falls off its back is demoted. The victim is the
// unprivileged entry with the fewest uses, the older one among equals; the privileged back when
// the unprivileged partition has no unpinned entry.

#include <algorithm>

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Lfru final : public CachePolicy {
 public:
  Lfru(const PolicyConfig& config, double privileged)
      : lists_(config.n_entries(), 2),
        uses_(config.n_entries(), 0),
        privileged_limit_(static_cast<uint32_t>(privileged * config.capacity)) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (!hit) return;
    ++uses_[entry];
    lists_.MoveToFront(kPrivileged, entry);
    if (lists_.size(kPrivileged) > privileged_limit_) {
      lists_.MoveToFront(kUnprivileged, lists_.back(kPrivileged));
    }
  }
  void OnInsert(EntryId entry) noexcept override {
    uses_[entry] = 1;
    lists_.MoveToFront(kUnprivileged, entry);
  }
  void OnErase(EntryId entry) noexcept override { lists_.Remove(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    EntryId best = kNoEntry;
    for (EntryId e = lists_.back(kUnprivileged); e != kNoEntry; e = lists_.Newer(e)) {
      if (pinned[e] == 0 && (best == kNoEntry || uses_[e] < uses_[best])) best = e;
    }
    return best != kNoEntry ? best : lists_.OldestUnpinned(kPrivileged, pinned);
  }

 private:
  enum { kUnprivileged, kPrivileged };

  EntryLists lists_;
  std::vector<uint32_t> uses_;  // [n_entries] since insertion
  uint32_t privileged_limit_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeLfru(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<Lfru>(config, params.Real("privileged", 0.5, 0.0, 1.0));
}

}  // namespace stoker
