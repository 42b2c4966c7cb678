#pragma once

// Replays a trace through one policy at one capacity, by the protocol of cache_policy.h, and
// computes what no online policy can beat (Belady) and how far apart reuses are. The policy is the
// engine's own object. Pure computation on borrowed values; thread-compatible.

#include <cstdint>
#include <vector>

#include "experts/cache_policy.h"
#include "experts/trace.h"

namespace stoker {

struct ReplayCounters {
  uint64_t tokens = 0;
  uint64_t accesses = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t miss_bytes = 0;  // demanded
  uint64_t prefetches = 0;    // reads on speculation
  uint64_t wasted_bytes = 0;  // of them, that nobody asked for

  double hit_rate() const { return accesses == 0 ? 0.0 : static_cast<double>(hits) / accesses; }
  double bytes_per_token() const {
    return tokens == 0 ? 0.0 : static_cast<double>(miss_bytes + wasted_bytes) / tokens;
  }
};

struct ReplayResult {
  ReplayCounters total;
  ReplayCounters decode;  // the decode part of it
};

struct ReplayOptions {
  // Requests whose token is below are replayed but not counted (warm-up).
  int64_t skip_tokens = 0;
  // Follow the trace's protect records, and count its prefetches. On for replaying a live run as it
  // was; off for asking what a policy would do alone.
  bool speculation = false;
  // Show the policy the recorded router choices.
  bool hints = true;
};

// When one request needs more experts than there are slots it streams, as expert_cache.h describes;
// a capacity of one slot is replayed although the engine wants two.
ReplayResult Replay(const Trace& trace, CachePolicy& policy, const PolicyConfig& config,
                    const ReplayOptions& options);

// The fewest misses possible with `capacity` slots: evicts what is needed again last (Belady, IBM
// Systems Journal 5(2), 1966), never an expert of the current request, but those it has served when
// it needs more slots than there are. O(n log n) in accesses.
// Fewest misses is fewest bytes only where all layers' experts have one size. With passes > 0 the
// future is known only up to the same layer of so many tokens later: what is not needed by then
// goes first, of it what the whole trace uses least. So this is what guessing that far without an
// error would be worth.
ReplayResult ReplayBelady(const Trace& trace, uint32_t capacity, const ReplayOptions& options,
                          int64_t passes = 0);

// Demanded accesses of every entry, [n_entries].
std::vector<uint64_t> CountUses(const Trace& trace);

// Stack distances of demanded accesses: histogram[d] = accesses whose expert was last used d
// distinct experts ago (0 = again at once); the first uses are in `first_uses`. LRU with c slots
// hits the accesses of distance below c: exactly where every request is one expert, nearly where
// experts of one request are pinned together. O(n log n).
struct ReuseDistances {
  std::vector<uint64_t> histogram;  // [n_entries]
  uint64_t first_uses = 0;          // compulsory misses
};
ReuseDistances ComputeReuseDistances(const Trace& trace);

}  // namespace stoker
