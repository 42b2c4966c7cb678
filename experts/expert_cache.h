#pragma once

// The expert cache of paged mode: a fixed number of slots, each large enough for the three matrices
// of any one expert, filled by a Pager and emptied by a CachePolicy. Owns the slots (huge pages,
// all touched at open), the pager and the policy; borrows the weight store. A slot has a part in
// the memory of every node of the team's partition, which reads land in: the rows computed there.
// After construction it allocates nothing. Engine-thread only, and so are its handles. It neither
// computes nor decides who is evicted, and what it returns never depends on policy, budget or the
// order of arrival.
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
// Two slots suffice for any request, if at most one handle is held while Next is called. An expert
// that passed through, not yet dropped when the last miss was started, leaves its slot free when
// its handle goes: with layers that do not fit, none of them would be found again. After the
// request of a prompt's chunk some slots are freed for the next layer (chunk_room.h).
//
// Expected experts. Expect protects those that are resident as if they were pinned, until their
// layer's Request, the next Expect, or the moment a demanded expert would otherwise find no slot.
//
// Reads on speculation. Poll, and Next when nothing announced is left to start, read expected
// experts into a few slots set aside for that, and into free slots, while the device has nothing
// else to do. The policy never hears of them. When one is asked for it is a miss like any other,
// whose bytes are there already or on their way: it trades its slot for the one the policy gives
// up. Free slots are only borrowed: they are given back before a policy is asked for a victim. A
// wrong guess is dropped when its layer's Request shows it. So hits, misses and victims are the
// same with and without.
//
// Arriving experts. Reads are cut into blocks of rows, and NextArriving hands out the last expert
// of a request while they arrive.
//
// Errors. A read that fails for good frees its slot; Next throws for it and the announcement is
// over: reads under way complete and stay cached, the next Request starts afresh. An announcement
// of which not everything was taken is dropped by the next Request.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "experts/access_observer.h"
#include "experts/cache_plan.h"
#include "experts/cache_policy.h"
#include "experts/expert_source.h"
#include "experts/pager.h"
#include "experts/prefetch_governor.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"

namespace stoker {

struct CacheStats {
  uint64_t hits = 0;
  uint64_t late_hits = 0;  // of them: still being read when announced
  uint64_t misses = 0;
  uint64_t evictions = 0;
  uint64_t failed_reads = 0;   // experts
  uint64_t streamed = 0;       // requests that did not fit into the slots
  uint64_t bytes_read = 0;     // of extents, without padding; the pager counts what the disk gave
  uint64_t stall_ns = 0;       // Next and WaitRows waiting for the disk
  uint64_t prefetch_used = 0;  // reads on speculation whose expert was then asked for
  uint64_t prefetch_used_bytes = 0;    // of them, there by then
  uint64_t prefetch_wasted = 0;        // given up
  uint64_t prefetch_wasted_bytes = 0;  // read for them
  uint64_t resting_requests = 0;       // in which the governor allowed none
  PagerStats pager;
};

class ExpertCache final : public ExpertSource {
 public:
  // `pager` reads the files of `store`; `policy` was made from plan.policy, and the plan for the
  // partition of `team`. The slots are bound to its nodes and touched by its workers. Throws
  // std::system_error when memory is refused. `observer` may be null.
  ExpertCache(const WeightStore& store, std::unique_ptr<Pager> pager,
              std::unique_ptr<CachePolicy> policy, const CachePlan& plan, ThreadTeam& team,
              AccessObserver* observer = nullptr, PrefetchMode prefetch = PrefetchMode::kAuto);
  ~ExpertCache() override;

  void DescribeRequest(const RequestInfo& info) override;
  bool wants_all_routes() const override {
    return observer_ != nullptr && observer_->wants_all_routes();
  }
  void Expect(std::span<const ExpertId> ids) override;
  bool wants_guesses() const override;
  bool wants_polls() const override { return true; }
  void Poll() override;
  void Request(std::span<const ExpertId> ids) override;
  bool Ready() override;
  ExpertHandle Next() override;
  ExpertHandle NextArriving() override;

  CacheStats stats() const;
  const PrefetchGovernor& governor() const { return governor_; }
  uint32_t n_slots() const { return config_.capacity; }
  uint64_t memory_bytes() const { return memory_.size(); }
  const NodeBuffer& memory() const { return memory_; }
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
    uint32_t staged = kNoSlot;  // being read, or read, on speculation
  };
  // kDraining: given up, but its memory still belongs to reads or to a handle.
  enum class SlotState : uint8_t { kFree, kReading, kReady, kDraining };
  struct Slot {
    SlotState state = SlotState::kFree;
    bool announced = false;  // by the open announcement, and not handed out
    bool failed = false;
    bool staged = false;   // one of those set aside or borrowed
    bool passing = false;  // to be freed with its handle
    uint16_t blocks_pending = 0;
    uint16_t arrived[kExpertParts] = {};  // bit b: block b
    uint64_t bytes_arrived = 0;
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
  bool Complete(uint32_t slot) const override { return slots_[slot].state == SlotState::kReady; }
  int64_t WaitRows(uint32_t slot, ExpertPart part, int64_t have) override;
  void Relaid(ExpertId id, uint32_t slot, const ExpertView& view) override;

  void IndexExperts();
  void BindSlots();
  void TouchSlots(ThreadTeam& team);
  void StartQueued();
  void SubmitReads();
  void TellPolicy(Announced& item);
  void StartRead(Announced& item, uint32_t slot);
  void ReadBlocks(EntryId entry, uint32_t slot, ReadUrgency urgency);
  void ReadMatrix(uint32_t slot, uint32_t part, ReadUrgency urgency, TensorView& view);
  uint32_t AcquireSlot(Announced& item);
  void Evict(EntryId victim);
  void Erase(uint32_t slot);
  void FreeSlot(uint32_t slot);
  uint32_t PopFreeSlot();
  template <typename Fits>
  uint32_t FindStaged(Fits fits) const;
  void LeaveRoom();
  void JudgeGuesses(std::span<const ExpertId> ids, bool decode);
  void Speculate();
  uint32_t FindStagingSlot();
  uint32_t TakeBackSlot(EntryId entry);
  bool all_started() const { return next_queued_ == announced_.size(); }
  bool AskedFor(EntryId entry) const;  // by the open announcement
  void TakeStaged(EntryId entry, uint32_t free_slot);
  uint64_t DropStaged(uint32_t slot);
  void FreeStaged(uint32_t slot);
  void DropWrongGuesses(int32_t layer);
  TagRange Tags(uint32_t slot) const { return {uint64_t{slot} * kTagsPerSlot, kTagsPerSlot}; }
  // Of the extent, where block b begins; the extent's end for b = number of blocks.
  uint64_t BlockOffset(const FileExtent& extent, uint32_t block) const;
  int64_t RowsReady(const Slot& slot, int part) const;
  template <typename Done>
  uint64_t WaitUntil(Done done);
  ExpertHandle HandOut(Announced& item, uint64_t wait_ns);
  void SetPinned(const Slot& slot);
  void LetPass(uint32_t index);
  void ClearProtection();
  void Collect(bool wait);
  void FinishSlot(uint32_t index);
  Announced* PickReady();
  Announced* PickInOrder();
  [[noreturn]] void ThrowFailure();
  void CloseAnnouncement();
  // Where a node's rows of a matrix go.
  std::byte* SlotPart(uint32_t slot, size_t node, size_t part) const {
    const SlotRegion& region = regions_[node];
    return memory_.data() + region.begin + slot * region.slot_bytes + region.offset[part];
  }

  static constexpr uint32_t kMaxBlocks = 16;  // of one matrix: bits of Slot::arrived
  static constexpr uint64_t kTagsPerSlot = 64;

  const WeightStore& store_;
  const PolicyConfig config_;
  const Partition partition_;
  const std::vector<SlotRegion> regions_;
  uint64_t block_bytes_ = 0;
  AccessObserver* const observer_;
  std::vector<Entry> entries_;    // [n_layers * n_experts]
  std::vector<uint8_t> pinned_;   // [n_layers * n_experts], as the policy sees it: bits below
  std::vector<Slot> slots_;
  std::vector<RowPiece> pieces_;  // [slots, kExpertParts, n_nodes]; empty with one node
  std::vector<uint32_t> free_slots_;
  std::unique_ptr<CachePolicy> policy_;

  std::vector<Announced> announced_;  // the open announcement, in request order
  size_t n_taken_ = 0;
  size_t n_handles_ = 0;      // handed out and not dropped
  int32_t chunk_layer_ = -1;  // >= 0: room is to be made when the last of them goes
  size_t next_queued_ = 0;  // announced_ before it have been started
  bool streaming_ = false;
  ReadCompletion failure_;  // status kOk: none
  EntryId failed_entry_ = kNoEntry;
  uint32_t arriving_slot_ = kNoSlot;  // handed out incomplete; when dropped its request closes
  std::vector<EntryId> expected_;     // likeliest first
  bool protecting_ = false;           // them from eviction
  std::vector<EntryId> early_;        // the first guess for the same layer
  // The same of the layer expected before it, whose Request may still come.
  std::vector<EntryId> last_expected_, last_early_;
  std::vector<uint32_t> staging_;     // slots set aside, and those borrowed
  uint32_t n_borrowed_ = 0;           // of staging_: the next to become free are given back
  PrefetchGovernor governor_;
  std::vector<AccessContext> contexts_;
  std::vector<RouterChoice> hint_;  // of the last token of the request described
  std::vector<ExpertAccess> accesses_;  // scratch for the observer
  std::vector<ReadRequest> reads_;      // scratch: to be submitted together
  int32_t last_layer_ = -1;
  int64_t token_ = 0;

  CacheStats stats_;
  uint64_t arrivals_ = 0;
  NodeBuffer memory_;
  std::unique_ptr<Pager> pager_;  // after memory_: destroyed first, when its reads have ended
};

// The one that became staging last, of those that fit; kNoSlot when none does.
template <typename Fits>
uint32_t ExpertCache::FindStaged(Fits fits) const {
  const auto it = std::find_if(staging_.rbegin(), staging_.rend(),
                               [&](uint32_t index) { return fits(slots_[index]); });
  return it == staging_.rend() ? kNoSlot : *it;
}

}  // namespace stoker
