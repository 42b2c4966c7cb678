#pragma once

// The built-in policies as makers, one file each, and the little they share: parsed parameters, a
// clock of forward passes, and linked lists over entry ids. Internal to experts/: everyone else
// goes through MakePolicy. Each maker throws std::runtime_error for a parameter out of range.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "experts/cache_policy.h"

namespace stoker {

// The "key=value,..." part of a policy spec. A getter throws std::runtime_error naming policy, key,
// value and range when the value is malformed or outside [min, max].
class PolicyParams {
 public:
  // Throws for an item without '=', an empty key or a key given twice.
  PolicyParams(std::string_view policy, std::string_view text);

  double Real(std::string_view key, double fallback, double min, double max) const;
  int64_t Integer(std::string_view key, int64_t fallback, int64_t min, int64_t max) const;
  std::string Text(std::string_view key, std::string_view fallback) const;
  // Throws for a key that is none of these, and names the nearest.
  void CheckKeys(std::span<const std::string_view> known) const;
  const std::vector<std::pair<std::string, std::string>>& items() const { return items_; }
  const std::string& policy() const { return policy_; }

 private:
  const std::string* Find(std::string_view key) const;

  std::string policy_;
  std::vector<std::pair<std::string, std::string>> items_;
};

// Counts forward passes from the contexts of accesses: a new one begins when the token changes, or
// when the layers start over (several sequences may share a token index).
class PassClock {
 public:
  // The pass of this access, 1, 2, ...
  int64_t Observe(const AccessContext& context) noexcept {
    if (pass_ == 0 || context.token != token_ || context.layer < layer_) ++pass_;
    token_ = context.token;
    layer_ = context.layer;
    return pass_;
  }
  int64_t pass() const noexcept { return pass_; }
  int32_t layer() const noexcept { return layer_; }

 private:
  int64_t pass_ = 0;
  int64_t token_ = 0;
  int32_t layer_ = 0;
};

// Several doubly linked lists over the same entries; an entry is in at most one. Every operation is
// O(1) and allocates nothing.
class EntryLists {
 public:
  static constexpr uint8_t kNone = 0xff;

  EntryLists(uint32_t n_entries, int n_lists)
      : prev_(n_entries, kNoEntry),
        next_(n_entries, kNoEntry),
        list_(n_entries, kNone),
        heads_(n_lists) {}

  uint8_t ListOf(EntryId entry) const noexcept { return list_[entry]; }
  uint32_t size(int list) const noexcept { return heads_[list].size; }
  EntryId front(int list) const noexcept { return heads_[list].front; }
  EntryId back(int list) const noexcept { return heads_[list].back; }
  // Towards the front; kNoEntry past it.
  EntryId Newer(EntryId entry) const noexcept { return prev_[entry]; }
  EntryId Older(EntryId entry) const noexcept { return next_[entry]; }

  void PushFront(int list, EntryId entry) noexcept {
    Head& head = heads_[list];
    prev_[entry] = kNoEntry;
    next_[entry] = head.front;
    if (head.front != kNoEntry) prev_[head.front] = entry;
    head.front = entry;
    if (head.back == kNoEntry) head.back = entry;
    ++head.size;
    list_[entry] = static_cast<uint8_t>(list);
  }
  // No effect when `entry` is in no list.
  void Remove(EntryId entry) noexcept {
    if (list_[entry] == kNone) return;
    Head& head = heads_[list_[entry]];
    const EntryId before = prev_[entry];
    const EntryId after = next_[entry];
    (before == kNoEntry ? head.front : next_[before]) = after;
    (after == kNoEntry ? head.back : prev_[after]) = before;
    --head.size;
    list_[entry] = kNone;
  }
  void MoveToFront(int list, EntryId entry) noexcept {
    Remove(entry);
    PushFront(list, entry);
  }
  // The entry nearest the back that is not pinned; kNoEntry when there is none.
  EntryId OldestUnpinned(int list, PinnedView pinned) const noexcept {
    EntryId entry = heads_[list].back;
    while (entry != kNoEntry && pinned[entry] != 0) entry = prev_[entry];
    return entry;
  }

 private:
  struct Head {
    EntryId front = kNoEntry;
    EntryId back = kNoEntry;
    uint32_t size = 0;
  };

  std::vector<EntryId> prev_;
  std::vector<EntryId> next_;
  std::vector<uint8_t> list_;
  std::vector<Head> heads_;
};

// The resident entries as a dense array, for policies that compare all of them: a model has a few
// thousand entries and a miss costs milliseconds, so a scan of microseconds buys simplicity.
class ResidentSet {
 public:
  explicit ResidentSet(uint32_t n_entries) : place_(n_entries, kNoEntry) {
    entries_.reserve(n_entries);
  }
  bool Contains(EntryId entry) const noexcept { return place_[entry] != kNoEntry; }
  void Add(EntryId entry) noexcept {
    if (Contains(entry)) return;
    place_[entry] = static_cast<uint32_t>(entries_.size());
    entries_.push_back(entry);  // Within the reservation: allocates nothing.
  }
  void Drop(EntryId entry) noexcept {
    if (!Contains(entry)) return;
    const EntryId last = entries_.back();
    entries_[place_[entry]] = last;
    place_[last] = place_[entry];
    place_[entry] = kNoEntry;
    entries_.pop_back();
  }
  std::span<const EntryId> entries() const noexcept { return entries_; }

  // The unpinned resident entry with the smallest key(entry); the smallest id among equals, so the
  // answer does not depend on the history of the array. kNoEntry when all are pinned.
  template <typename Key>
  EntryId LowestUnpinned(PinnedView pinned, Key key) const noexcept {
    EntryId best = kNoEntry;
    decltype(key(EntryId{0})) best_key{};
    for (const EntryId entry : entries_) {
      if (pinned[entry] != 0) continue;
      const auto candidate = key(entry);
      if (best == kNoEntry || candidate < best_key || (candidate == best_key && entry < best)) {
        best = entry;
        best_key = candidate;
      }
    }
    return best;
  }

 private:
  std::vector<EntryId> entries_;
  std::vector<uint32_t> place_;  // index into entries_, kNoEntry = absent
};

// Layers until `layer` is visited again, counted from `now` which is being visited: 1 .. n_layers.
inline int32_t LayersUntil(int32_t layer, int32_t now, int32_t n_layers) noexcept {
  return layer > now ? layer - now : layer - now + n_layers;
}

using PolicyMaker = std::unique_ptr<CachePolicy> (*)(const PolicyConfig&, const PolicyParams&);

std::unique_ptr<CachePolicy> MakeLru(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeLfu(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeLfru(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeSlru(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeTwoQ(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeArc(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeClock(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeSieve(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeS3Fifo(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeWTinyLfu(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeGdsf(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeLeastStale(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeForecast(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeStatic(const PolicyConfig&, const PolicyParams&);
std::unique_ptr<CachePolicy> MakeRandom(const PolicyConfig&, const PolicyParams&);

// One `maker` policy per layer, each with its share of the capacity. See policies/per_layer.cc.
std::unique_ptr<CachePolicy> MakePerLayer(const PolicyConfig&, const PolicyParams&, PolicyMaker);

// A policy from a shared object, guarded. `path` contains '/'. See experts/policy_plugin.h.
std::unique_ptr<CachePolicy> MakePlugin(const std::string& path, const PolicyConfig&,
                                        const PolicyParams&);

}  // namespace stoker
