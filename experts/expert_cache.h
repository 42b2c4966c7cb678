#pragma once

// The expert cache of paged mode: a fixed number of slots, each large enough for the three matrices
// of any one expert, filled by a Pager and emptied by a CachePolicy. Owns the slots (huge pages,
// all touched at open), the pager and the policy; borrows the weight store. After construction it
// allocates nothing. Engine-thread only, and so are its handles. It neither computes nor decides
// who is evicted, and what it returns never depends on policy, budget or the order of arrival.
//
// Order of events. Request marks the announced experts as pinned and goes through them in the order
// given: a hit is told to the policy; a miss takes a free slot or the policy's victim, and its
// reads start. Next hands out hits first, then misses as they arrive.
//
// More experts than slots. From the first miss that finds every slot pinned, the request streams:
// the policy hears of the remaining hits, then each further miss waits for a slot. Next now hands
// out hits in request order and then misses in request order, whatever arrives first; each handle
// dropped frees a slot for the next miss. So every event the policy sees follows from the ids and
// from the order handles are dropped in, never from timing, and a replay gives the same counters.
// Two slots suffice for any request, if at most one handle is held while Next is called.
//
// Expected experts. Expect protects those that are resident as if they were pinned, until their
// layer's Request, the next Expect, or the moment a demanded expert would otherwise find no slot.
//
// Errors. A read that fails for good frees its slot; Next throws for it and the announcement is
// over: reads under way complete and stay cached, the next Request starts afresh. An announcement
// of which not everything was taken is dropped by the next Request.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "experts/cache_policy.h"
#include "experts/expert_source.h"
#include "experts/pager.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"

namespace stoker {

// What became of one announced expert; told when its request is over, in request order.
struct ExpertAccess {
  ExpertId id;
  EntryId victim = kNoEntry;  // lost its slot to it; kNoEntry for a hit or a free slot
  bool hit = false;           // resident, or being read already, when announced
  uint64_t bytes = 0;         // of its extents, read from disk; 0 for a hit
  uint64_t wait_ns = 0;       // the engine stood still for it
  AccessContext context;
};

// Implemented by the trace writer. Called on the engine thread between layers.
class AccessObserver {
 public:
  virtual ~AccessObserver() = default;
  virtual void OnAccesses(std::span<const ExpertAccess> accesses) noexcept = 0;
};

struct CacheStats {
  uint64_t hits = 0;
  uint64_t late_hits = 0;  // of them: still being read when announced
  uint64_t misses = 0;
  uint64_t evictions = 0;
  uint64_t failed_reads = 0;   // experts
  uint64_t streamed = 0;       // requests that did not fit into the slots
  uint64_t bytes_read = 0;     // of extents, without padding; the pager counts what the disk gave
  uint64_t stall_ns = 0;       // Next waiting for the disk
  PagerStats pager;
};

// Slots for a budget, and what a policy must know of them.
struct CachePlan {
  uint64_t slot_bytes = 0;
  uint32_t n_slots = 0;
  PolicyConfig policy;
  uint64_t memory_bytes() const { return slot_bytes * n_slots; }
};

// budget_bytes: for slots alone; what exceeds all experts of the model is left. Throws
// std::runtime_error with numbers when it holds fewer than two slots.
CachePlan PlanCache(const WeightStore& store, const Pager& pager, uint64_t budget_bytes);

class ExpertCache final : public ExpertSource {
 public:
  // `pager` reads the files of `store`; `policy` was made from plan.policy. The slots are touched
  // by `team`. Throws std::system_error when memory is refused. `observer` may be null.
  ExpertCache(const WeightStore& store, std::unique_ptr<Pager> pager,
              std::unique_ptr<CachePolicy> policy, const CachePlan& plan, ThreadTeam& team,
              AccessObserver* observer = nullptr);
  ~ExpertCache() override;

  void DescribeRequest(std::span<const AccessContext> contexts) override;
  void Expect(std::span<const ExpertId> ids) override;
  void Request(std::span<const ExpertId> ids) override;
  ExpertHandle Next() override;

  CacheStats stats() const;
  void ResetStats();
  uint32_t n_slots() const { return static_cast<uint32_t>(slots_.size()); }
  uint64_t memory_bytes() const { return memory_.size(); }
  const Pager& pager() const { return *pager_; }
  // Complete and resident now.
  bool Contains(ExpertId id) const;

 private:
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  static constexpr uint8_t kPinned = 1;    // in pinned_: announced, being read, or in use
  static constexpr uint8_t kExpected = 2;  // in pinned_: protected by Expect

  struct Part {
    FileExtent extent;
    TensorView shape;  // data == nullptr
  };
  struct Entry {
    Part parts[kExpertParts];
    uint32_t slot = kNoSlot;
  };
  enum class SlotState : uint8_t { kFree, kReading, kReady };
  struct Slot {
    SlotState state = SlotState::kFree;
    bool announced = false;  // by the open announcement, and not handed out
    bool failed = false;
    uint8_t parts_pending = 0;
    uint32_t handles = 0;
    EntryId entry = kNoEntry;
    uint64_t arrival = 0;  // rank in order of completion
    ReadCompletion failure;
    ExpertView view;
  };
  struct Announced {
    ExpertAccess access;
    EntryId entry = kNoEntry;
    bool told = false;     // the policy knows of the access
    bool started = false;  // resident or being read
    bool taken = false;
  };

  void Unpin(ExpertId id, uint32_t slot) override;

  void IndexExperts();
  void TouchSlots(ThreadTeam& team);
  void StartQueued();
  void TellPolicy(Announced& item);
  void StartRead(Announced& item, uint32_t slot);
  uint32_t AcquireSlot(Announced& item);
  void SetPinned(const Slot& slot);
  void ClearExpected();
  void Collect(bool wait);
  void FinishSlot(uint32_t index);
  Announced* PickReady();
  Announced* PickInOrder();
  [[noreturn]] void ThrowFailure();
  void CloseAnnouncement();
  std::byte* SlotMemory(uint32_t slot) const { return memory_.data() + slot * slot_bytes_; }

  const WeightStore& store_;
  const PolicyConfig config_;
  const uint64_t slot_bytes_;
  AccessObserver* const observer_;
  std::vector<Entry> entries_;    // [n_layers * n_experts]
  std::vector<uint8_t> pinned_;   // [n_layers * n_experts], as the policy sees it: bits below
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::unique_ptr<CachePolicy> policy_;

  std::vector<Announced> announced_;  // the open announcement, in request order
  size_t n_taken_ = 0;
  size_t next_queued_ = 0;  // announced_ before it have been started
  bool streaming_ = false;
  ReadCompletion failure_;  // status kOk: none
  EntryId failed_entry_ = kNoEntry;
  std::vector<EntryId> expected_;
  std::vector<AccessContext> contexts_;
  std::vector<ExpertAccess> accesses_;  // scratch for the observer
  std::vector<ReadRequest> reads_;      // scratch: to be submitted together
  int32_t last_layer_ = -1;
  int64_t token_ = 0;

  CacheStats stats_;
  uint64_t arrivals_ = 0;
  NodeBuffer memory_;
  std::unique_ptr<Pager> pager_;  // after memory_: destroyed first, when its reads have ended
};

}  // namespace stoker
