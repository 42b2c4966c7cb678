#pragma once

// Drives a policy by the protocol of experts/cache_policy.h on accesses written by hand, and keeps
// the truth about residence. For tests; single-threaded.

#include <string_view>
#include <vector>

#include "experts/cache_policy.h"

namespace stoker::test {

inline PolicyConfig SmallConfig(uint32_t capacity, int32_t n_layers = 1, int32_t n_experts = 16) {
  PolicyConfig config;
  config.n_layers = n_layers;
  config.n_experts = n_experts;
  config.capacity = capacity;
  config.seed = 1;
  return config;
}

class PolicyDriver {
 public:
  PolicyDriver(std::string_view spec, const PolicyConfig& config)
      : config_(config),
        policy_(MakePolicy(spec, config).policy),
        resident_(config.n_entries(), 0),
        pinned_(config.n_entries(), 0) {}

  // One request of one expert in a pass of its own (or of the pass `token`). Returns the victim,
  // kNoEntry for a hit or a free slot.
  EntryId Use(EntryId entry, int64_t token = -1) {
    const AccessContext context{.layer = config_.Expert(entry).layer,
                                .token = token < 0 ? ++token_ : token};
    const bool hit = resident_[entry] != 0;
    policy_->OnAccess(entry, hit, context);
    if (hit) return kNoEntry;
    EntryId victim = kNoEntry;
    if (size_ == config_.capacity) {
      victim = policy_->Victim(entry, pinned_);
      policy_->OnErase(victim);
      resident_.at(victim) = 0;
      --size_;
    }
    policy_->OnInsert(entry);
    resident_[entry] = 1;
    ++size_;
    return victim;
  }
  void UseAll(std::initializer_list<EntryId> entries) {
    for (const EntryId entry : entries) Use(entry);
  }

  bool Has(EntryId entry) const { return resident_[entry] != 0; }
  void Pin(EntryId entry, bool pinned) { pinned_[entry] = pinned ? 1 : 0; }
  CachePolicy& policy() { return *policy_; }
  PinnedView pinned() const { return pinned_; }

 private:
  PolicyConfig config_;
  std::unique_ptr<CachePolicy> policy_;
  std::vector<uint8_t> resident_;
  std::vector<uint8_t> pinned_;
  uint32_t size_ = 0;
  int64_t token_ = 0;
};

}  // namespace stoker::test
