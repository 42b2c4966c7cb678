// Random replacement: the floor any other policy should stand above.
//
// Belady: A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal
// 5(2), 1966, uses it as the reference point.
// Rule: the victim is an unpinned resident entry, each equally likely; the sequence depends on the
// seed alone (splitmix64, Steele, Lea, Flood, OOPSLA 2014). The draw happens when an entry leaves,
// not when a victim is asked for, so asking twice gives the same answer.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Random final : public CachePolicy {
 public:
  explicit Random(const PolicyConfig& config)
      : resident_(config.n_entries()), state_(config.seed) {}

  void OnAccess(EntryId, bool, const AccessContext&) noexcept override {}
  void OnInsert(EntryId entry) noexcept override { resident_.Add(entry); }
  void OnErase(EntryId entry) noexcept override {
    resident_.Drop(entry);
    state_ += 0x9e3779b97f4a7c15ULL;
  }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    const auto entries = resident_.entries();
    if (entries.empty()) return kNoEntry;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    const size_t start = z % entries.size();
    for (size_t i = 0; i < entries.size(); ++i) {
      const EntryId entry = entries[(start + i) % entries.size()];
      if (pinned[entry] == 0) return entry;
    }
    return kNoEntry;
  }

 private:
  ResidentSet resident_;
  uint64_t state_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeRandom(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<Random>(config);
}

}  // namespace stoker
