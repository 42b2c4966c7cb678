#include "experts/expert_cache.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "experts/chunk_room.h"
#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr uint64_t kTouchPageBytes = 4 * kKiB;

EntryId EntryOf(const PolicyConfig& config, ExpertId id) {
  STOKER_CHECK(id.layer >= 0 && id.layer < config.n_layers && id.expert >= 0 &&
               id.expert < config.n_experts);
  return config.Entry(id);
}

}  // namespace

ExpertCache::ExpertCache(const WeightStore& store, std::unique_ptr<Pager> pager,
                         std::unique_ptr<CachePolicy> policy, const CachePlan& plan,
                         ThreadTeam& team, AccessObserver* observer, PrefetchMode prefetch)
    : store_(store),
      config_(plan.policy),
      partition_(team.partition()),
      regions_(plan.regions),
      observer_(observer),
      entries_(config_.n_entries()),
      pinned_(config_.n_entries(), 0),
      slots_(plan.n_slots + plan.n_staging),
      policy_(std::move(policy)),
      governor_(prefetch, config_.n_layers),
      memory_(NodeBuffer::Allocate(std::max(plan.memory_bytes(), 2 * kMiB), "expert cache")),
      pager_(std::move(pager)) {
  const auto per_layer = static_cast<size_t>(config_.n_experts);
  free_slots_.reserve(slots_.size());
  for (uint32_t i = plan.n_slots; i > 0; --i) free_slots_.push_back(i - 1);
  staging_.reserve(slots_.size());
  for (uint32_t i = plan.n_slots; i < slots_.size(); ++i) {
    slots_[i].staged = true;
    staging_.push_back(i);
  }
  announced_.reserve(per_layer);
  contexts_.reserve(per_layer);
  hint_.reserve(per_layer);
  expected_.reserve(per_layer);
  early_.reserve(per_layer);
  last_expected_.reserve(per_layer);
  last_early_.reserve(per_layer);
  accesses_.reserve(per_layer);
  const auto most_blocks = static_cast<uint32_t>(
      std::clamp<size_t>(kMostLayerReads / (per_layer * kExpertParts), 1, kMaxBlocks));
  STOKER_CHECK(regions_.size() == static_cast<size_t>(partition_.n_nodes()));
  reads_.reserve(per_layer * kExpertParts * (most_blocks + regions_.size()));
  block_bytes_ =
      AlignUp(std::max(plan.block_bytes, DivCeil(plan.slot_bytes, uint64_t{most_blocks})),
              pager_->alignment());
  if (regions_.size() > 1) pieces_.resize(slots_.size() * kExpertParts * regions_.size());
  IndexExperts();
  BindSlots();
  TouchSlots(team);
  pager_->RegisterMemory(memory_.span());
}

ExpertCache::~ExpertCache() {
  for (const Slot& slot : slots_) STOKER_CHECK_MSG(slot.handles == 0, "handle outlives its cache");
}

void ExpertCache::IndexExperts() {
  for (EntryId entry = 0; entry < entries_.size(); ++entry) {
    for (int p = 0; p < kExpertParts; ++p) {
      const ExpertId id = config_.Expert(entry);
      Part& part = entries_[entry].parts[p];
      part.extent = store_.Expert(id, static_cast<ExpertPart>(p)).extent;
      part.shape = store_.ExpertView(id, static_cast<ExpertPart>(p));
      part.shape.data = nullptr;
    }
  }
}

// Every region to its node. Where a node also has memory without workers, some slots lie there.
void ExpertCache::BindSlots() {
  if (!partition_.binds_rows()) {
    memory_.Interleave(partition_.stripe_nodes(), "expert cache");
    return;
  }
  PagePlan pages;
  for (size_t node = 0; node < regions_.size(); ++node) {
    if (regions_[node].slot_bytes == 0) continue;
    double before = 0;
    for (const Partition::Memory& memory : partition_.nodes()[node].memory) {
      const double fraction = before / partition_.share(static_cast<int>(node));
      const int64_t slot = CutAt(fraction, static_cast<int64_t>(slots_.size()));
      pages.From(regions_[node].begin + static_cast<uint64_t>(slot) * regions_[node].slot_bytes,
                 memory.os_node);
      before += memory.share;
    }
  }
  memory_.Bind(pages, "expert cache");
}

// The workers of a node touch its region: of every matrix of every slot the part where their rows
// will be, so that pages which no policy binds lie there too. Matrices of one kind are of nearly
// one size in every layer.
void ExpertCache::TouchSlots(ThreadTeam& team) {
  team.Run([&](const Worker& worker) {
    const Worker local = worker.OnNode();
    const SlotRegion& region = regions_[static_cast<size_t>(worker.node)];
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
      for (size_t p = 0; p < kExpertParts; ++p) {
        const uint64_t part_end = p + 1 < kExpertParts ? region.offset[p + 1] : region.slot_bytes;
        std::byte* part = SlotPart(slot, static_cast<size_t>(worker.node), p);
        const auto [begin, end] = local.Share(static_cast<int64_t>(part_end - region.offset[p]),
                                              static_cast<int64_t>(kTouchPageBytes));
        for (int64_t at = begin; at < end; at += static_cast<int64_t>(kTouchPageBytes)) {
          *static_cast<volatile std::byte*>(part + at) = std::byte{0};
        }
      }
    }
  });
}

void ExpertCache::DescribeRequest(const RequestInfo& info) {
  STOKER_CHECK(info.routes_per_token <= hint_.capacity());
  contexts_.assign(info.contexts.begin(), info.contexts.end());
  const auto last = info.routes.last(std::min<size_t>(info.routes_per_token, info.routes.size()));
  hint_.assign(last.begin(), last.end());
  // What is left of the announcement before is told first: records are joined in order.
  if (!announced_.empty()) CloseAnnouncement();
  if (observer_ != nullptr) observer_->OnRouting(info);
}

void ExpertCache::Expect(std::span<const ExpertId> ids) {
  STOKER_CHECK(ids.size() <= static_cast<size_t>(config_.n_experts));
  const bool first = expected_.empty() || ids.empty() ||
                     config_.Expert(expected_.front()).layer != ids.front().layer;
  ClearProtection();
  if (first) {
    last_expected_.swap(expected_);
    last_early_.swap(early_);
  }
  expected_.clear();
  for (const ExpertId id : ids) {
    STOKER_CHECK(id.layer == ids.front().layer);
    const EntryId entry = EntryOf(config_, id);
    pinned_[entry] |= kExpected;
    expected_.push_back(entry);
  }
  protecting_ = !ids.empty();
  if (first) early_.assign(expected_.begin(), expected_.end());
  if (observer_ != nullptr) observer_->OnExpected(ids);
}

void ExpertCache::ClearProtection() {
  for (const EntryId entry : expected_) pinned_[entry] &= kPinned;
  protecting_ = false;
}

void ExpertCache::Request(std::span<const ExpertId> ids) {
  if (!announced_.empty()) CloseAnnouncement();
  STOKER_CHECK(ids.size() <= static_cast<size_t>(config_.n_experts));
  STOKER_CHECK(contexts_.empty() || contexts_.size() == ids.size());
  chunk_layer_ = -1;
  if (ids.empty()) return;

  // A read left over from an announcement that failed may be doomed already: it is not ours to
  // report, so let it end first.
  for (const ExpertId id : ids) {
    Entry& entry = entries_[EntryOf(config_, id)];
    while (entry.slot != kNoSlot && slots_[entry.slot].failed) Collect(true);
  }
  // A layer not above the last one begins the next forward pass.
  if (ids.front().layer <= last_layer_) ++token_;
  last_layer_ = ids.front().layer;
  Collect(false);  // What has arrived counts as such, and what has failed is no hit.
  JudgeGuesses(ids, contexts_.empty() || contexts_.front().phase == Phase::kDecode);
  if (!expected_.empty() && config_.Expert(expected_.front()).layer == last_layer_) {
    ClearProtection();
    expected_.clear();
    early_.clear();
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    STOKER_CHECK(ids[i].layer == last_layer_);
    Announced item;
    item.access.id = ids[i];
    item.entry = EntryOf(config_, ids[i]);
    item.access.context.layer = last_layer_;
    item.access.context.token = token_;
    if (!contexts_.empty()) item.access.context = contexts_[i];
    const uint32_t slot = entries_[item.entry].slot;
    if (slot != kNoSlot) {
      STOKER_CHECK_MSG(!slots_[slot].announced, "expert announced twice");
      item.access.hit = true;
      ++stats_.hits;
      if (slots_[slot].state == SlotState::kReading) ++stats_.late_hits;
      slots_[slot].announced = true;
      SetPinned(slots_[slot]);
    } else {
      ++stats_.misses;
    }
    announced_.push_back(item);
  }
  contexts_.clear();
  if (!hint_.empty()) policy_->OnRouterHint(last_layer_, hint_);
  hint_.clear();
  DropWrongGuesses(last_layer_);
  StartQueued();
}

void ExpertCache::TellPolicy(Announced& item) {
  // A hit whose read has failed since: the policy has heard that it is gone.
  if (item.access.hit && entries_[item.entry].slot == kNoSlot) return;
  if (!item.told) policy_->OnAccess(item.entry, item.access.hit, item.access.context);
  item.told = true;
}

// Starts announced experts in order, as far as there are slots, and submits their reads together.
void ExpertCache::StartQueued() {
  for (; next_queued_ < announced_.size(); ++next_queued_) {
    Announced& item = announced_[next_queued_];
    TellPolicy(item);
    if (item.access.hit) {
      item.started = true;
      continue;
    }
    const uint32_t slot = AcquireSlot(item);
    if (slot == kNoSlot) {
      if (streaming_) break;
      streaming_ = true;
      ++stats_.streamed;
      // The hits behind are pinned still; the policy must hear of them before it may evict them.
      for (size_t i = next_queued_ + 1; i < announced_.size(); ++i) {
        if (!announced_[i].access.hit) continue;
        TellPolicy(announced_[i]);
        announced_[i].started = true;
      }
      break;
    }
    StartRead(item, slot);
    item.started = true;
  }
  if (streaming_ && all_started()) {
    for (const Announced& item : announced_) {
      const uint32_t index = entries_[item.entry].slot;
      if (item.access.hit || index == kNoSlot) continue;
      Slot& slot = slots_[index];
      slot.passing = slot.announced || slot.handles > 0;
    }
  }
  SubmitReads();
}

// A pager that throws, because the kernel takes no more reads, has them all the same: they must not
// be submitted again.
void ExpertCache::SubmitReads() {
  if (reads_.empty()) return;
  try {
    pager_->Submit(reads_);
  } catch (...) {
    reads_.clear();
    throw;
  }
  reads_.clear();
}

// A free slot, if need be by eviction; kNoSlot while all are pinned.
uint32_t ExpertCache::AcquireSlot(Announced& item) {
  if (free_slots_.empty() && n_borrowed_ > 0) return TakeBackSlot(item.entry);
  if (free_slots_.empty()) {
    EntryId victim = policy_->Victim(item.entry, pinned_);
    if (victim == kNoEntry && protecting_) {  // What is needed now goes before a guess.
      ClearProtection();
      victim = policy_->Victim(item.entry, pinned_);
    }
    if (victim == kNoEntry) return kNoSlot;
    Evict(victim);
    item.access.victim = victim;
  }
  return PopFreeSlot();
}

void ExpertCache::Evict(EntryId victim) {
  STOKER_CHECK_MSG(victim < entries_.size() && pinned_[victim] == 0 &&
                       entries_[victim].slot != kNoSlot,
                   "the policy's victim is pinned or not resident");
  ++stats_.evictions;
  Erase(entries_[victim].slot);
}

// What lies in the slot is no longer resident.
void ExpertCache::Erase(uint32_t index) {
  const EntryId entry = slots_[index].entry;
  policy_->OnErase(entry);
  entries_[entry].slot = kNoSlot;
  FreeSlot(index);
}

void ExpertCache::FreeSlot(uint32_t index) {
  slots_[index] = Slot{};
  free_slots_.push_back(index);
}

uint32_t ExpertCache::PopFreeSlot() {
  const uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  return index;
}

// A borrowed slot, for an expert that is asked for: the one it was read into, if it was, or a free
// one. Else what costs least is given up, and waited for while reads are under way in it.
uint32_t ExpertCache::TakeBackSlot(EntryId entry) {
  const auto in = [](SlotState state) { return [=](const Slot& s) { return s.state == state; }; };
  uint32_t index = entries_[entry].staged;
  if (index == kNoSlot) index = FindStaged(in(SlotState::kFree));
  if (index != kNoSlot) {
    std::erase(staging_, index);
    --n_borrowed_;
    slots_[index].staged = false;
    return index;
  }
  index = FindStaged([this](const Slot& slot) {
    return slot.state == SlotState::kReady && !AskedFor(slot.entry);
  });
  if (index == kNoSlot) index = FindStaged(in(SlotState::kDraining));
  if (index == kNoSlot) index = staging_.back();
  if (slots_[index].state != SlotState::kDraining) DropStaged(index);
  SubmitReads();
  WaitUntil([this] { return !free_slots_.empty(); });  // The next to become free is given back.
  return PopFreeSlot();
}

void ExpertCache::SetPinned(const Slot& slot) {
  const bool pinned = slot.announced || slot.handles > 0 || slot.state == SlotState::kReading;
  uint8_t& bits = pinned_[slot.entry];
  bits = static_cast<uint8_t>((bits & kExpected) | (pinned ? kPinned : 0));
}

// The next to hand out that is complete: hits first, then in order of arrival.
ExpertCache::Announced* ExpertCache::PickReady() {
  if (streaming_) return PickInOrder();
  Announced* best = nullptr;
  uint64_t best_arrival = 0;
  for (Announced& item : announced_) {
    if (item.taken || !item.started) continue;
    const Slot& slot = slots_[entries_[item.entry].slot];
    if (slot.state != SlotState::kReady) continue;
    if (item.access.hit) return &item;
    if (best == nullptr || slot.arrival < best_arrival) {
      best = &item;
      best_arrival = slot.arrival;
    }
  }
  return best;
}

// While streaming: hits in request order, then misses in request order; nullptr when the next one
// is not there yet.
ExpertCache::Announced* ExpertCache::PickInOrder() {
  for (const bool hit : {true, false}) {
    for (Announced& item : announced_) {
      if (item.taken || item.access.hit != hit) continue;
      const bool ready =
          item.started && slots_[entries_[item.entry].slot].state == SlotState::kReady;
      return ready ? &item : nullptr;
    }
  }
  return nullptr;
}

bool ExpertCache::Ready() {
  Collect(false);
  if (failure_.status != ReadStatus::kOk) return true;
  StartQueued();
  if (PickReady() != nullptr) return true;
  Speculate();
  pager_->FillQueues();
  return false;
}

ExpertHandle ExpertCache::Next() {
  STOKER_CHECK_MSG(n_taken_ < announced_.size(), "no announced expert left");
  Announced* item = nullptr;
  Collect(false);
  const uint64_t wait_ns = WaitUntil([&] {
    if (failure_.status != ReadStatus::kOk) ThrowFailure();
    StartQueued();
    item = PickReady();
    return item != nullptr;
  });
  Speculate();
  return HandOut(*item, wait_ns);
}

ExpertHandle ExpertCache::NextArriving() {
  if (n_taken_ + 1 != announced_.size()) return Next();
  Collect(false);
  if (failure_.status != ReadStatus::kOk) ThrowFailure();
  StartQueued();
  const auto left = std::find_if(announced_.begin(), announced_.end(),
                                 [](const Announced& item) { return !item.taken; });
  if (!left->started) return Next();
  return HandOut(*left, 0);
}

// Collects completions until `done`; returns the nanoseconds that the engine stood still.
template <typename Done>
uint64_t ExpertCache::WaitUntil(Done done) {
  uint64_t wait_ns = 0;
  while (!done()) {
    STOKER_CHECK_MSG(pager_->pending() > 0,
                     "no slot to be had: handles pin them all, or the policy names no victim");
    const auto start = std::chrono::steady_clock::now();
    Collect(true);
    const auto waited = std::chrono::steady_clock::now() - start;
    wait_ns += static_cast<uint64_t>(std::chrono::nanoseconds(waited).count());
  }
  stats_.stall_ns += wait_ns;
  return wait_ns;
}

ExpertHandle ExpertCache::HandOut(Announced& item, uint64_t wait_ns) {
  pager_->FillQueues();
  const uint32_t index = entries_[item.entry].slot;
  Slot& slot = slots_[index];
  item.taken = true;
  item.access.wait_ns = wait_ns;
  slot.announced = false;
  ++slot.handles;
  SetPinned(slot);
  const ExpertId id = item.access.id;
  ++n_handles_;
  if (++n_taken_ == announced_.size()) {
    const AccessContext& context = item.access.context;
    if (IsChunk(config_, context.layer, context.phase, n_taken_)) chunk_layer_ = context.layer;
    // What is still to be waited for belongs to this request.
    if (slot.state == SlotState::kReading) {
      arriving_slot_ = index;
    } else {
      CloseAnnouncement();
    }
  }
  return ExpertHandle(this, id, slot.view, index);
}

int64_t ExpertCache::WaitRows(uint32_t index, ExpertPart part, int64_t have) {
  const Slot& slot = slots_[index];
  int64_t rows = 0;
  Collect(false);
  const uint64_t wait_ns = WaitUntil([&] {
    if (slot.failed) {
      failure_ = slot.failure;
      failed_entry_ = slot.entry;
      ThrowFailure();
    }
    rows = RowsReady(slot, static_cast<int>(part));
    return rows > have;
  });
  pager_->FillQueues();
  if (index == arriving_slot_) {
    for (Announced& item : announced_) {
      if (item.entry == slot.entry) item.access.wait_ns += wait_ns;
    }
  }
  return rows;
}

void ExpertCache::ThrowFailure() {
  const ReadCompletion failure = failure_;
  const ExpertId id = config_.Expert(failed_entry_);
  CloseAnnouncement();
  throw std::runtime_error(ReadErrorMessage(store_, failure) + " (layer " +
                           std::to_string(id.layer) + ", expert " + std::to_string(id.expert) +
                           ")");
}

void ExpertCache::CloseAnnouncement() {
  accesses_.clear();
  for (const Announced& item : announced_) {
    if (item.told) accesses_.push_back(item.access);
    if (item.taken) continue;
    const uint32_t slot = entries_[item.entry].slot;
    if (slot == kNoSlot || !slots_[slot].announced) continue;
    slots_[slot].announced = false;
    slots_[slot].passing = false;
    SetPinned(slots_[slot]);
  }
  announced_.clear();
  n_taken_ = 0;
  next_queued_ = 0;
  streaming_ = false;
  failure_ = ReadCompletion{};
  failed_entry_ = kNoEntry;
  arriving_slot_ = kNoSlot;
  if (observer_ != nullptr) observer_->OnAccesses(accesses_);
}

void ExpertCache::Unpin(ExpertId /*id*/, uint32_t index) {
  Slot& slot = slots_[index];
  STOKER_CHECK(slot.handles > 0);
  --slot.handles;
  if (slot.state != SlotState::kDraining) {
    SetPinned(slot);
    LetPass(index);
  } else if (slot.handles == 0) {  // Its read had failed.
    FreeSlot(index);
  }
  if (index == arriving_slot_) CloseAnnouncement();
  if (--n_handles_ == 0 && chunk_layer_ >= 0) LeaveRoom();
}

// The last handle of a chunk's request is gone.
void ExpertCache::LeaveRoom() {
  const auto n_free = static_cast<uint32_t>(free_slots_.size()) + n_borrowed_;
  MakeRoom(
      config_, std::exchange(chunk_layer_, -1), n_free, *policy_, pinned_,
      [this](EntryId entry) { return entries_[entry].slot != kNoSlot; },
      [this](EntryId entry) { Evict(entry); });
}

// Of an expert that passed through when the handle and the reads are gone.
void ExpertCache::LetPass(uint32_t index) {
  const Slot& slot = slots_[index];
  const bool in_use = slot.announced || slot.handles > 0 || slot.state != SlotState::kReady;
  if (slot.passing && !in_use) Erase(index);
}

void ExpertCache::Relaid(ExpertId /*id*/, uint32_t index, const ExpertView& view) {
  slots_[index].view = view;
}

bool ExpertCache::Contains(ExpertId id) const {
  const uint32_t slot = entries_[EntryOf(config_, id)].slot;
  return slot != kNoSlot && slots_[slot].state == SlotState::kReady;
}

CacheStats ExpertCache::stats() const {
  CacheStats stats = stats_;
  stats.resting_requests = governor_.resting_requests();
  stats.pager = pager_->stats();
  return stats;
}

}  // namespace stoker
