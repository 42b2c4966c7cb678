// GDSF: greedy dual with size and frequency, cost-aware.
//
// Cherkasova: Improving WWW proxies performance with greedy-dual-size-frequency caching policy, HP
// Labs report HPL-98-69R1, 1998.
// Rule: every resident entry has the value H = L + uses * cost / size, set when it is used; L is
// the value of the last victim, so what has not been used for long is overtaken by inflation. The
// victim is the unpinned entry with the lowest H, the older one among equals.
// All slots have one size, so size is 1; cost is the bytes a miss of that layer reads, relative to
// the mean layer (mixed quantisations differ between layers).

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class Gdsf final : public CachePolicy {
 public:
  explicit Gdsf(const PolicyConfig& config)
      : n_experts_(config.n_experts),
        cost_(config.n_layers, 1.0),
        uses_(config.n_entries(), 0),
        value_(config.n_entries()),
        resident_(config.n_entries()) {
    double sum = 0.0;
    for (const float cost : config.layer_cost) sum += cost;
    if (sum <= 0.0) return;
    for (int32_t layer = 0; layer < config.n_layers; ++layer) {
      cost_[layer] = config.layer_cost[layer] * config.n_layers / sum;
    }
  }

  void OnAccess(EntryId entry, bool hit, const AccessContext&) noexcept override {
    if (!hit) return;
    ++uses_[entry];
    Revalue(entry);
  }
  void OnInsert(EntryId entry) noexcept override {
    uses_[entry] = 1;
    Revalue(entry);
    resident_.Add(entry);
  }
  void OnErase(EntryId entry) noexcept override {
    if (resident_.Contains(entry) && value_[entry].h > inflation_) inflation_ = value_[entry].h;
    resident_.Drop(entry);
  }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    return resident_.LowestUnpinned(pinned, [this](EntryId entry) { return value_[entry]; });
  }

 private:
  struct Value {
    double h = 0.0;
    uint64_t when = 0;
    auto operator<=>(const Value&) const = default;
  };

  void Revalue(EntryId entry) noexcept {
    value_[entry] = {inflation_ + uses_[entry] * cost_[entry / n_experts_], ++now_};
  }

  uint32_t n_experts_;
  std::vector<double> cost_;    // [n_layers], mean 1
  std::vector<uint32_t> uses_;  // [n_entries] since insertion
  std::vector<Value> value_;    // [n_entries]
  ResidentSet resident_;
  double inflation_ = 0.0;  // L
  uint64_t now_ = 0;
};

}  // namespace

std::unique_ptr<CachePolicy> MakeGdsf(const PolicyConfig& config, const PolicyParams&) {
  return std::make_unique<Gdsf>(config);
}

}  // namespace stoker
