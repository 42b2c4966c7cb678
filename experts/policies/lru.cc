// LRU: least recently used.
//
// Mattson, Gecsei, Slutz, Traiger: Evaluation techniques for storage hierarchies, IBM Systems
// Journal 9(2), 1970.
// Rule: one list; an access or an insertion moves the entry to the front; the victim is the
// unpinned entry nearest the back.
// On expert streams: a decoded token walks all layers, so below one token cycle (n_layers * top_k
// entries) every entry is evicted before its layer comes round again and LRU hits exactly never.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Lru final : public CachePolicy {
 public:
  explicit Lru(const PolicyConfig& config) : lists_(config.n_entries(), 1) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (hit) lists_.MoveToFront(0, entry);
  }
  void OnInsert(EntryId entry) noexcept override { lists_.MoveToFront(0, entry); }
  void OnErase(EntryId entry) noexcept override { lists_.Remove(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    return lists_.OldestUnpinned(0, pinned);
  }

 private:
  EntryLists lists_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeLru(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<Lru>(config);
}

}  // namespace stoker
