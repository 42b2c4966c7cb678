#pragma once

// What an ExpertSource tells whoever keeps a record of it: what the router chose, what was asked
// for and what it cost, what was expected and what became of reads on speculation. Implemented by
// TraceRecorder. Called on the engine thread between layers; spans are valid during the call only.

#include <cstdint>
#include <span>

#include "experts/expert_source.h"

namespace stoker {

// What became of one announced expert; told when its request is over, in request order.
struct ExpertAccess {
  ExpertId id;
  EntryId victim = kNoEntry;  // lost its slot to it; kNoEntry for a hit or a free slot
  bool hit = false;           // in the cache, or being read on demand, when announced
  bool known = true;          // false: there is no cache, every expert is in memory or mapped
  uint64_t bytes = 0;         // of its extents, read from disk; 0 for a hit
  uint64_t wait_ns = 0;       // the engine stood still for it
  AccessContext context;
};

// A read on speculation that has ended: its expert was asked for, or it was given up.
struct SpeculativeRead {
  ExpertId id;
  bool used = false;
  uint64_t bytes = 0;  // used: that had arrived when the expert was asked for; else: all it read
};

class AccessObserver {
 public:
  virtual ~AccessObserver() = default;
  virtual bool wants_all_routes() const noexcept { return false; }
  // Belongs to the next OnAccesses.
  virtual void OnRouting(const RequestInfo& /*info*/) noexcept {}
  virtual void OnAccesses(std::span<const ExpertAccess> accesses) noexcept = 0;
  // The experts protected from eviction until the next Request of their layer.
  virtual void OnExpected(std::span<const ExpertId> /*ids*/) noexcept {}
  virtual void OnSpeculativeRead(const SpeculativeRead& /*read*/) noexcept {}
};

}  // namespace stoker
