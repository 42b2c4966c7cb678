// Least-Stale: what its layer passed over goes first, then what is needed furthest away.
//
// After Hoang, Jaiswal, Samragh, Cho: SpecMD: a comprehensive study on speculative expert
// prefetching, arXiv 2602.03921, 2026: experts are needed in the order of layers, not of recency,
// so evict the stale ones, last used in an earlier pass, before those of the current pass.
// Rule: the staleness of an entry is the number of visits of its layer since its last use (an entry
// waiting for its layer's turn is not stale). The victim is the unpinned entry with the greatest
// staleness; among equals, the one whose layer comes round last.
// So below one token cycle, where LRU evicts exactly what comes next, this evicts what was just
// used, and keeps hitting.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class LeastStale final : public CachePolicy {
 public:
  explicit LeastStale(const PolicyConfig& config)
      : n_layers_(config.n_layers),
        n_experts_(config.n_experts),
        visits_(config.n_layers, 0),
        last_pass_(config.n_layers, 0),
        used_(config.n_entries(), 0),
        resident_(config.n_entries()) {}

  void OnAccess(EntryId entry, bool, const AccessContext& context) noexcept override {
    const int64_t pass = clock_.Observe(context);
    layer_ = static_cast<int32_t>(entry / n_experts_);
    if (last_pass_[layer_] != pass) {
      last_pass_[layer_] = pass;
      ++visits_[layer_];
    }
    used_[entry] = visits_[layer_];
  }
  void OnInsert(EntryId entry) noexcept override {
    // A prefetched entry waits for the next visit of its layer: not stale.
    used_[entry] = visits_[entry / n_experts_];
    resident_.Add(entry);
  }
  void OnErase(EntryId entry) noexcept override { resident_.Drop(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    return resident_.LowestUnpinned(pinned, [this](EntryId entry) {
      const auto layer = static_cast<int32_t>(entry / n_experts_);
      const int64_t staleness = visits_[layer] - used_[entry];
      return -(staleness * n_layers_ * 2 + LayersUntil(layer, layer_, n_layers_));
    });
  }

 private:
  int32_t n_layers_;
  uint32_t n_experts_;
  std::vector<int64_t> visits_;     // [n_layers]
  std::vector<int64_t> last_pass_;  // [n_layers]
  std::vector<int64_t> used_;       // [n_entries] visits_ of its layer at the last use
  ResidentSet resident_;
  PassClock clock_;
  int32_t layer_ = 0;  // being visited
};

}  // namespace

std::unique_ptr<CachePolicy> MakeLeastStale(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<LeastStale>(config);
}

}  // namespace stoker
