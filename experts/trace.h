#pragma once

// Routing traces: what every layer of every forward pass asked the expert cache for, and what it
// got. One format on disk (docs/policies.md describes it byte by byte), one form in memory for the
// simulator. Written by the engine through TraceWriter (trace_io.h), by TraceFromSynth below for
// experiments without a model, and read back by LoadTrace. Plain values; thread-compatible.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "experts/cache_policy.h"

namespace stoker {

enum class TraceKind : uint8_t {
  kDemand = 0,    // one layer's announcement; every access is needed now
  // A read on speculation for `layer` has ended: outcome kHitPrefetched when its expert was then
  // asked for, `bytes` had arrived by then; kMiss when it was given up, `bytes` read for nothing.
  kPrefetch = 1,
  kProtect = 2,   // expected in the next demand request of `layer`; not to be evicted until then
};

enum class AccessOutcome : uint8_t {
  kUnknown = 0,  // not recorded by a cache (synthetic, or experts all resident)
  kHit = 1,
  kMiss = 2,
  kHitPrefetched = 3,  // of a prefetch: used
};

struct TraceAccess {
  EntryId entry = 0;
  EntryId victim = kNoEntry;  // who lost the slot; kNoEntry when one was free or none was needed
  float gate_weight = 0.0F;   // largest over the request's tokens, 0 = not known
  uint32_t bytes = 0;         // read for it
  uint32_t wait_us = 0;       // the token path stood still for it
  uint8_t rank = 0;           // best over the request's tokens
  AccessOutcome outcome = AccessOutcome::kUnknown;
};

// One record. The spans borrow: from the caller when writing, from the reader or Trace when
// reading.
struct TraceRequest {
  TraceKind kind = TraceKind::kDemand;
  Phase phase = Phase::kDecode;
  int32_t layer = 0;
  int64_t token = 0;  // index of the first token
  uint32_t n_tokens = 1;
  uint64_t time_us = 0;                        // when it ended, since the trace began, 0 = no clock
  std::span<const TraceAccess> accesses = {};  // in the order they were announced
  // What the router chose for each token, the top_k that ran and then runner-ups, best first.
  uint16_t routes_per_token = 0;              // 0 = not recorded
  std::span<const RouterChoice> routes = {};  // [n_tokens, routes_per_token]
};

struct TraceHeader {
  uint64_t model_hash = 0;  // 0 = synthetic
  int32_t n_layers = 0;
  int32_t n_experts = 0;
  int32_t top_k = 0;
  uint32_t capacity = 0;               // entries of the cache that was running; 0 = none
  uint64_t seed = 0;                   // its policy's
  std::string policy;                  // spec of the policy that was running
  std::string model;                   // name, for people
  std::string types;                   // gate/up/down types of the experts, for people
  std::vector<uint64_t> expert_bytes;  // [n_layers] one expert of that layer

  // capacity, seed and layer_cost filled in as the simulator needs them.
  PolicyConfig MakeConfig(uint32_t capacity_entries) const;
};

// A whole trace in memory, flat.
class Trace {
 public:
  TraceHeader header;
  // False when the file has no end record: the recording process died, or its disk was full. What
  // is there is valid; of a block that was cut off nothing is.
  bool complete = true;

  void Append(const TraceRequest& request);
  size_t size() const { return rows_.size(); }
  TraceRequest operator[](size_t i) const;
  size_t n_accesses() const { return accesses_.size(); }
  // Bytes of memory the records take.
  uint64_t memory_bytes() const;

 private:
  struct Row {
    TraceKind kind;
    Phase phase;
    uint16_t routes_per_token;
    int32_t layer;
    int64_t token;
    uint64_t time_us;
    uint32_t n_tokens;
    uint32_t n_accesses;
    uint64_t first_access;
    uint64_t first_route;
  };
  std::vector<Row> rows_;
  std::vector<TraceAccess> accesses_;
  std::vector<RouterChoice> routes_;
};

// A made-up trace with three properties one can dial: skewed popularity, short-term repetition,
// and changes of phase. Every (layer, expert) has a popularity 1 / rank^zipf; the router of token t
// takes the top_k of log popularity + phase offset + Gumbel noise, which draws experts with exactly
// these popularities, without replacement. Repetition: a noise value stays for the next token with
// probability `locality` instead of being drawn anew, which leaves the popularities as they are.
struct SynthOptions {
  int32_t n_layers = 80;
  int32_t n_experts = 32;
  int32_t top_k = 2;
  int32_t runner_ups = 2;     // recorded after the top_k, as far as there are experts
  int64_t prompt_tokens = 0;  // prefilled first, in chunks
  int64_t prefill_chunk = 256;
  int64_t decode_tokens = 1024;
  double zipf = 0.8;            // >= 0; 0 = balanced
  double locality = 0.3;        // [0, 1)
  double phase_tokens = 0;      // mean length of a phase, exponential; 0 = never changes
  double phase_strength = 1.0;  // standard deviation of the offsets a phase adds to the logits
  uint64_t expert_bytes = 95'551'488;  // M1 at 4.5 bits
  uint64_t seed = 1;
};

// Throws std::runtime_error for options out of range, naming the option.
Trace TraceFromSynth(const SynthOptions& options);

}  // namespace stoker
