#pragma once

// Room for the next layer. A prompt's chunk uses most experts of every layer, so while one layer's
// attention is computed the next layer's missing experts can be read, if there are slots for them.
// After the request of a chunk the policy is asked for victims until some are free: about those it
// would name a moment later, when the next layer asks. One rule for the engine's cache and the
// simulator, which must see the same events. Pure.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "experts/cache_policy.h"

namespace stoker {

// Whether a request of n_ids experts is a chunk's, with a layer after it.
inline bool IsChunk(const PolicyConfig& config, int32_t layer, Phase phase, size_t n_ids) {
  return phase == Phase::kPrefill && layer + 1 < config.n_layers &&
         2 * n_ids >= static_cast<size_t>(config.n_experts);
}

// After a chunk's request of `layer`, when none of its experts is in use. n_free: slots nobody has
// now. At most half a layer's experts and a quarter of the slots become free. `pinned` [n_entries]
// is as it was when this returns. resident(entry) tells; evict(entry) tells the policy and frees.
template <typename Resident, typename Evict>
void MakeRoom(const PolicyConfig& config, int32_t layer, uint32_t n_free, CachePolicy& policy,
              std::vector<uint8_t>& pinned, Resident resident, Evict evict) {
  constexpr uint8_t kNextLayer = 0x80;
  const EntryId first = config.Entry({layer + 1, 0});
  const EntryId end = first + static_cast<EntryId>(config.n_experts);
  EntryId incoming = kNoEntry;
  uint32_t n_missing = 0;
  for (EntryId entry = first; entry < end; ++entry) {
    pinned[entry] |= kNextLayer;  // What the next layer finds it shall not lose.
    if (resident(entry)) continue;
    if (n_missing++ == 0) incoming = entry;
  }
  const uint32_t room = std::min(
      {n_missing, static_cast<uint32_t>(config.n_experts) / 2, config.capacity / 4});
  for (; n_free < room; ++n_free) {
    const EntryId victim = policy.Victim(incoming, pinned);
    if (victim == kNoEntry) break;
    evict(victim);
  }
  for (EntryId entry = first; entry < end; ++entry) {
    pinned[entry] = static_cast<uint8_t>(pinned[entry] & ~kNextLayer);
  }
}

}  // namespace stoker
