// SLRU: segmented LRU.
//
// Karedla, Love, Wherry: Caching strategies to improve disk system performance, IEEE Computer
// 27(3), 1994.
// Rule: two LRU segments. A new entry goes to the front of probation; a hit moves it to the front
// of protected, which holds at most `protected` of the capacity; what falls off its back goes to
// the front of probation again. The victim is the back of probation, and the back of protected
// only when probation has no unpinned entry. One use is thus never enough to displace an entry
// that was used twice.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Slru final : public CachePolicy {
 public:
  Slru(const PolicyConfig& config, double share)
      : lists_(config.n_entries(), 2),
        protected_limit_(static_cast<uint32_t>(share * config.capacity)) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (!hit) return;
    lists_.MoveToFront(kProtected, entry);
    if (lists_.size(kProtected) > protected_limit_) {
      lists_.MoveToFront(kProbation, lists_.back(kProtected));
    }
  }
  void OnInsert(EntryId entry) noexcept override { lists_.MoveToFront(kProbation, entry); }
  void OnErase(EntryId entry) noexcept override { lists_.Remove(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    const EntryId entry = lists_.OldestUnpinned(kProbation, pinned);
    return entry != kNoEntry ? entry : lists_.OldestUnpinned(kProtected, pinned);
  }

 private:
  enum { kProbation, kProtected };

  EntryLists lists_;
  uint32_t protected_limit_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeSlru(const PolicyConfig& config, const PolicyParams& params) {
  return std::make_unique<Slru>(config, params.Real("protected", 0.8, 0.0, 1.0));
}

}  // namespace stoker
