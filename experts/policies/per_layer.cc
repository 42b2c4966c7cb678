// Per-layer partition: any policy, one instance per layer (scope=layer).
//
// Eliseev, Mazur: Fast inference of mixture-of-experts language models with offloading,
// arXiv 2312.17238, 2023, keep k experts of every layer.
// Rule: the capacity is divided evenly; the first capacity % n_layers layers have one more. An
// incoming entry takes the place of one of its own layer when that layer has its share, else of the
// layer that is furthest above its own (while the cache fills up, and when everything of a layer is
// pinned, shares are exceeded rather than slots left empty). Within the layer the inner policy
// chooses; it sees a model of one layer.

#include "experts/policies/policies.h"

namespace stoker {
namespace {

class PerLayer final : public CachePolicy {
 public:
  PerLayer(const PolicyConfig& config, const PolicyParams& params, PolicyMaker maker)
      : n_experts_(static_cast<uint32_t>(config.n_experts)), size_(config.n_layers, 0) {
    const auto n_layers = static_cast<uint32_t>(config.n_layers);
    for (uint32_t layer = 0; layer < n_layers; ++layer) {
      share_.push_back(config.capacity / n_layers + (layer < config.capacity % n_layers ? 1 : 0));
      PolicyConfig inner = config;
      inner.n_layers = 1;
      inner.n_policies = config.n_layers;
      inner.capacity = std::max<uint32_t>(1, share_.back());
      inner.seed = config.seed + layer;
      inner.layer_cost.clear();
      inner_.push_back(maker(inner, params));
    }
  }

  void OnAccess(EntryId entry, bool hit, const AccessContext& context) noexcept override {
    AccessContext inner = context;
    inner.layer = 0;
    inner_[entry / n_experts_]->OnAccess(entry % n_experts_, hit, inner);
  }
  void OnInsert(EntryId entry) noexcept override {
    ++size_[entry / n_experts_];
    inner_[entry / n_experts_]->OnInsert(entry % n_experts_);
  }
  void OnErase(EntryId entry) noexcept override {
    --size_[entry / n_experts_];
    inner_[entry / n_experts_]->OnErase(entry % n_experts_);
  }
  void OnRouterHint(int32_t layer, std::span<const RouterChoice> choices) noexcept override {
    inner_[layer]->OnRouterHint(0, choices);
  }
  EntryId Victim(EntryId incoming, PinnedView pinned) noexcept override {
    const uint32_t own = incoming / n_experts_;
    uint32_t layer = own;
    if (size_[own] < share_[own] || size_[own] == 0) {
      int64_t most = INT64_MIN;
      for (uint32_t l = 0; l < size_.size(); ++l) {
        const int64_t excess = static_cast<int64_t>(size_[l]) - share_[l];
        if (size_[l] > 0 && excess > most) {
          most = excess;
          layer = l;
        }
      }
    }
    for (uint32_t turn = 0; turn < size_.size(); ++turn) {
      const uint32_t l = (layer + turn) % static_cast<uint32_t>(size_.size());
      // Another layer's policy would take the number for an entry of its own.
      const EntryId coming = l == own ? incoming % n_experts_ : kNoEntry;
      const EntryId expert =
          inner_[l]->Victim(coming, pinned.subspan(l * n_experts_, n_experts_));
      if (expert != kNoEntry) return l * n_experts_ + expert;
    }
    return kNoEntry;
  }

 private:
  uint32_t n_experts_;
  std::vector<uint32_t> size_;   // [n_layers] resident entries
  std::vector<uint32_t> share_;  // [n_layers]
  std::vector<std::unique_ptr<CachePolicy>> inner_;
};

}  // namespace

std::unique_ptr<CachePolicy> MakePerLayer(const PolicyConfig& config, const PolicyParams& params,
                                          PolicyMaker maker) {
  return std::make_unique<PerLayer>(config, params, maker);
}

}  // namespace stoker
