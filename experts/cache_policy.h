#pragma once

// Which expert leaves the cache: the policy seam. A CachePolicy sees entry ids and events and names
// victims; it holds no bytes, locks, clocks or I/O, allocates only in its constructor, and is
// noexcept afterwards, so the engine's cache and the simulator run the very same object and give
// the same counters. Owned by one cache (or one replay); engine-thread only. It does not decide
// when to read, what to prefetch or how slots are laid out.
//
// Protocol, the same in the engine and in the simulator. One *request* is the set of distinct
// experts one layer needs in one forward pass. The caller first marks all of them pinned, then goes
// through them in order:
//   first, optionally: OnRouterHint(layer, choices) of the request's last token
//   hit:   OnAccess(e, true, ctx)
//   miss:  OnAccess(e, false, ctx); when no slot is free: v = Victim(e, pinned), OnErase(v);
//          OnInsert(e)  - at the moment the slot is assigned, not when its read completes.
// After the request of a prompt's chunk the caller may ask for victims ahead of need
// (chunk_room.h).
// A policy never hears of reads on speculation: they go to slots set aside for them, and become a
// miss like any other when the expert is asked for.
// A demanded expert always gets a slot, because it must be somewhere while it is multiplied. A
// policy that would rather stream it through says so by naming it as the next victim; so no slots
// are set aside for transit, and every policy has exactly `capacity` slots to compare by.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/weight_store.h"

namespace stoker {

// layer * n_experts + expert: dense, so policies index arrays with it.
using EntryId = uint32_t;
inline constexpr EntryId kNoEntry = UINT32_MAX;
// The most that a model or a trace may have.
inline constexpr int64_t kMaxEntries = int64_t{1} << 24;

enum class Phase : uint8_t { kPrefill = 0, kDecode = 1 };

// One choice of a router: an expert of the layer and its score, softmax over all experts or scaled
// by any constant (policies use ratios).
struct RouterChoice {
  uint16_t expert = 0;
  float weight = 0.0F;
};

struct AccessContext {
  int32_t layer = 0;
  // Index of the first token of this request. Different in each forward pass, not decreasing.
  int64_t token = 0;
  // The router's weight of this expert in this request (largest over its tokens); 0 = not known.
  float gate_weight = 0.0F;
  // 0 = the router's first choice (best over the request's tokens).
  int32_t rank = 0;
  Phase phase = Phase::kDecode;
};

struct PolicyConfig {
  int32_t n_layers = 0;   // layers that have experts, 1 .. 4096
  int32_t n_experts = 0;  // per layer, 1 .. 65536; n_layers * n_experts <= kMaxEntries
  int32_t top_k = 1;      // experts per token and layer
  uint32_t capacity = 0;  // entries the cache can hold, 1 .. n_layers * n_experts
  uint64_t seed = 0;
  // Policies that one cache is divided among (scope=layer), which share any limit on memory.
  int32_t n_policies = 1;
  // Relative cost of one miss per layer (bytes read), for cost-aware policies; empty = all equal.
  std::vector<float> layer_cost;
  // Called at most once, from the engine thread, when a plug-in policy had to be put aside.
  // Empty = one line on stderr.
  std::function<void(std::string_view message)> on_fault;

  uint32_t n_entries() const { return static_cast<uint32_t>(n_layers) * n_experts; }
  EntryId Entry(ExpertId id) const {
    return static_cast<EntryId>(id.layer) * n_experts + static_cast<EntryId>(id.expert);
  }
  ExpertId Expert(EntryId entry) const {
    return {static_cast<int32_t>(entry / n_experts), static_cast<int32_t>(entry % n_experts)};
  }
  // Distinct experts one decoded token touches. Below this, global LRU hits exactly never.
  uint32_t token_cycle() const { return static_cast<uint32_t>(n_layers) * top_k; }
};

// [n_entries] bytes owned by the caller; nonzero = must not be chosen (pinned, being read, or
// protected because it is expected soon).
using PinnedView = std::span<const uint8_t>;

class CachePolicy {
 public:
  virtual ~CachePolicy() = default;

  // `entry` is needed now. hit: it is resident.
  virtual void OnAccess(EntryId entry, bool hit, const AccessContext& context) noexcept = 0;
  // `entry` became resident, was not before. At most `capacity` entries are resident at a time.
  virtual void OnInsert(EntryId entry) noexcept = 0;
  // `entry` is no longer resident: the policy's victim, or one the cache dropped on its own.
  virtual void OnErase(EntryId entry) noexcept = 0;
  // What the router of `layer` chose for the last token of the request that follows: top_k experts
  // and then runner-ups, best first, as many as the caller records in its trace (so that a replay
  // sees the same). Optional: a policy must be correct when it never comes.
  virtual void OnRouterHint(int32_t /*layer*/, std::span<const RouterChoice> /*choices*/) noexcept {
  }

  // A resident entry to give up for `incoming`, which is not resident, or is kNoEntry when the slot
  // goes to another layer's policy. Returns kNoEntry only when every resident entry is pinned.
  // Asking again, or asking and then not evicting, does no harm.
  virtual EntryId Victim(EntryId incoming, PinnedView pinned) noexcept = 0;
};

struct PolicyChoice {
  std::unique_ptr<CachePolicy> policy;
  // What runs, with `auto` resolved and parameters as given: "lfu:half_life=64".
  std::string spec;
  // One line for the user, with numbers, or empty: the budget is below one token cycle, ...
  std::string warning;
};

// spec: "name[:key=value,key=value]", "auto", or "path/to/plugin.so[:key=value]" (any name that
// contains '/'). Every built-in policy but `static` takes scope=global|layer (default global): with
// `layer` each layer has its own share of the capacity. A plug-in gets every key as its own. Throws
// std::runtime_error for an unknown name or parameter (naming the nearest and listing all), a value
// out of range, or a plug-in that does not load; STOKER_CHECKs `config` itself.
PolicyChoice MakePolicy(std::string_view spec, const PolicyConfig& config);

// Whether a spec names a plug-in: '/' before its first parameter's value.
bool IsPluginSpec(std::string_view spec);

// The specs of a list "lru,2q:in=0.25,out=0.5,./mine.so:k=v": a piece that has '=' and neither ':'
// nor '/' before it continues the spec in front. Empty pieces stay, for the caller to refuse.
std::vector<std::string> SplitPolicySpecs(std::string_view list);

struct PolicyParameterInfo {
  std::string_view key;
  std::string_view meaning;  // with range and default
};

struct PolicyInfo {
  std::string_view name;
  std::string_view summary;  // one line
  std::vector<PolicyParameterInfo> parameters;
};

// Every built-in policy, in the order help texts list them; `auto` first.
std::span<const PolicyInfo> ListPolicies();

}  // namespace stoker
