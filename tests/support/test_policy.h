#pragma once

// A least-recently-used policy that also checks the protocol of cache_policy.h and keeps a log of
// what it was told, for tests of the cache.

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "experts/cache_policy.h"
#include "numa/check.h"

namespace stoker::testing {

class TestPolicy final : public CachePolicy {
 public:
  explicit TestPolicy(const PolicyConfig& config)
      : config_(config), resident_(config.n_entries(), 0) {
    order_.reserve(config.n_entries());
    log_.reserve(1 << 20);
  }

  void OnAccess(EntryId entry, bool hit, const AccessContext& context) noexcept override {
    STOKER_CHECK(hit == (resident_[entry] != 0));
    STOKER_CHECK(context.layer == config_.Expert(entry).layer);
    Log(hit ? 'h' : 'm', entry);
    if (hit) {
      std::erase(order_, entry);
      order_.push_back(entry);
    }
  }
  void OnInsert(EntryId entry) noexcept override {
    STOKER_CHECK(resident_[entry] == 0 && order_.size() < config_.capacity);
    Log('+', entry);
    resident_[entry] = 1;
    order_.push_back(entry);
  }
  void OnErase(EntryId entry) noexcept override {
    STOKER_CHECK(resident_[entry] != 0);
    Log('-', entry);
    resident_[entry] = 0;
    std::erase(order_, entry);
  }
  EntryId Victim(EntryId incoming, PinnedView pinned) noexcept override {
    STOKER_CHECK(resident_[incoming] == 0 && order_.size() == config_.capacity);
    const auto it = std::find_if(order_.begin(), order_.end(),
                                 [&](EntryId entry) { return pinned[entry] == 0; });
    return it == order_.end() ? kNoEntry : *it;
  }

  // "m3 +3 h5 ": everything it was told, in order.
  const std::string& log() const { return log_; }

 private:
  // Writes without allocating, until the reserve is used up.
  void Log(char what, EntryId entry) {
    char text[16];
    const int n = std::snprintf(text, sizeof(text), "%c%u ", what, entry);
    if (log_.size() + static_cast<size_t>(n) <= log_.capacity()) log_.append(text);
  }

  const PolicyConfig config_;
  std::vector<uint8_t> resident_;
  std::vector<EntryId> order_;  // least recently used first
  std::string log_;
};

}  // namespace stoker::testing
