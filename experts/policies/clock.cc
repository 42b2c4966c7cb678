// CLOCK: second chance.
//
// Corbato: A paging experiment with the Multics system, MIT Project MAC report MAC-M-384, 1968.
// Rule: entries stand in a queue in the order of insertion with one reference bit, set by a hit.
// The victim is sought from the oldest end: an entry with its bit set loses the bit and goes to the
// young end, the first without it is the victim. Pinned entries are passed over in place.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Clock final : public CachePolicy {
 public:
  explicit Clock(const PolicyConfig& config)
      : lists_(config.n_entries(), 1), referenced_(config.n_entries(), 0) {}

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (hit) referenced_[entry] = 1;
  }
  void OnInsert(EntryId entry) noexcept override {
    referenced_[entry] = 0;
    lists_.MoveToFront(0, entry);
  }
  void OnErase(EntryId entry) noexcept override { lists_.Remove(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    EntryId entry = lists_.OldestUnpinned(0, pinned);
    // Each turn clears one bit, so this ends.
    while (entry != kNoEntry && referenced_[entry] != 0) {
      referenced_[entry] = 0;
      lists_.MoveToFront(0, entry);
      entry = lists_.OldestUnpinned(0, pinned);
    }
    return entry;
  }

 private:
  EntryLists lists_;
  std::vector<uint8_t> referenced_;  // [n_entries]
};

}  // namespace

std::unique_ptr<CachePolicy> MakeClock(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<Clock>(config);
}

}  // namespace stoker
