#include "experts/expert_cache.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr uint32_t kMinSlots = 2;  // one expert computed on, one arriving
constexpr int64_t kTouchPageBytes = 4096;

EntryId EntryOf(const PolicyConfig& config, ExpertId id) {
  STOKER_CHECK(id.layer >= 0 && id.layer < config.n_layers && id.expert >= 0 &&
               id.expert < config.n_experts);
  return config.Entry(id);
}

}  // namespace

CachePlan PlanCache(const WeightStore& store, const Pager& pager, uint64_t budget_bytes) {
  const ModelConfig& model = store.config();
  CachePlan plan;
  plan.policy.n_layers = static_cast<int32_t>(model.n_layers);
  plan.policy.n_experts = static_cast<int32_t>(model.n_experts);
  plan.policy.top_k = static_cast<int32_t>(model.n_experts_per_token);
  for (int32_t layer = 0; layer < plan.policy.n_layers; ++layer) {
    uint64_t layer_bytes = 0;
    for (int32_t expert = 0; expert < plan.policy.n_experts; ++expert) {
      uint64_t padded = 0;
      for (int p = 0; p < kExpertParts; ++p) {
        const FileExtent extent = store.Expert({layer, expert}, static_cast<ExpertPart>(p)).extent;
        padded += PaddedBytes(extent.offset, extent.bytes, pager.alignment());
        layer_bytes += extent.bytes;
      }
      plan.slot_bytes = std::max(plan.slot_bytes, padded);
    }
    plan.policy.layer_cost.push_back(static_cast<float>(layer_bytes) /
                                     static_cast<float>(plan.policy.n_experts));
  }
  const uint64_t n_slots = std::min<uint64_t>(budget_bytes / plan.slot_bytes,
                                              plan.policy.n_entries());
  if (n_slots < std::min<uint64_t>(kMinSlots, plan.policy.n_entries())) {
    throw std::runtime_error("expert budget " + FormatBytes(budget_bytes) + " holds " +
                             std::to_string(n_slots) + " of at least " +
                             std::to_string(kMinSlots) + " experts of " +
                             FormatBytes(plan.slot_bytes) + "; raise --memory by " +
                             FormatBytes(kMinSlots * plan.slot_bytes - budget_bytes));
  }
  plan.n_slots = static_cast<uint32_t>(n_slots);
  plan.policy.capacity = plan.n_slots;
  return plan;
}

ExpertCache::ExpertCache(const WeightStore& store, std::unique_ptr<Pager> pager,
                         std::unique_ptr<CachePolicy> policy, const CachePlan& plan,
                         ThreadTeam& team, AccessObserver* observer)
    : store_(store),
      config_(plan.policy),
      slot_bytes_(plan.slot_bytes),
      observer_(observer),
      entries_(config_.n_entries()),
      pinned_(config_.n_entries(), 0),
      slots_(plan.n_slots),
      policy_(std::move(policy)),
      memory_(NodeBuffer::Allocate(std::max(plan.memory_bytes(), 2 * kMiB), "expert cache")),
      pager_(std::move(pager)) {
  const auto per_layer = static_cast<size_t>(config_.n_experts);
  free_slots_.reserve(slots_.size());
  for (uint32_t i = n_slots(); i > 0; --i) free_slots_.push_back(i - 1);
  announced_.reserve(per_layer);
  contexts_.reserve(per_layer);
  expected_.reserve(per_layer);
  accesses_.reserve(per_layer);
  reads_.reserve(per_layer * kExpertParts);
  IndexExperts();
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

// Each worker touches its share of each matrix, where its rows will be. The matrices of one expert
// follow each other and are of nearly one size in every layer, so thirds of the slot will do.
void ExpertCache::TouchSlots(ThreadTeam& team) {
  const auto matrix_bytes = static_cast<int64_t>(slot_bytes_ / kExpertParts);
  team.Run([&](const Worker& worker) {
    for (uint32_t slot = 0; slot < n_slots(); ++slot) {
      for (int p = 0; p < kExpertParts; ++p) {
        std::byte* matrix = SlotMemory(slot) + p * matrix_bytes;
        const int64_t bytes =
            p + 1 < kExpertParts ? matrix_bytes
                                 : static_cast<int64_t>(slot_bytes_) - p * matrix_bytes;
        const auto [begin, end] = worker.Share(bytes, kTouchPageBytes);
        for (int64_t at = begin; at < end; at += kTouchPageBytes) {
          *static_cast<volatile std::byte*>(matrix + at) = std::byte{0};
        }
      }
    }
  });
}

void ExpertCache::DescribeRequest(std::span<const AccessContext> contexts) {
  contexts_.assign(contexts.begin(), contexts.end());
}

void ExpertCache::Expect(std::span<const ExpertId> ids) {
  STOKER_CHECK(ids.size() <= static_cast<size_t>(config_.n_experts));
  ClearExpected();
  for (const ExpertId id : ids) {
    STOKER_CHECK(id.layer == ids.front().layer);
    const EntryId entry = EntryOf(config_, id);
    pinned_[entry] |= kExpected;
    expected_.push_back(entry);
  }
}

void ExpertCache::ClearExpected() {
  for (const EntryId entry : expected_) pinned_[entry] &= kPinned;
  expected_.clear();
}

void ExpertCache::Request(std::span<const ExpertId> ids) {
  if (!announced_.empty()) CloseAnnouncement();
  STOKER_CHECK(ids.size() <= static_cast<size_t>(config_.n_experts));
  STOKER_CHECK(contexts_.empty() || contexts_.size() == ids.size());
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
  if (!expected_.empty() && config_.Expert(expected_.front()).layer == last_layer_) {
    ClearExpected();
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
  StartQueued();
}

void ExpertCache::TellPolicy(Announced& item) {
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
  if (!reads_.empty()) pager_->Submit(reads_);
  reads_.clear();
}

// A free slot, if need be by eviction; kNoSlot while all are pinned.
uint32_t ExpertCache::AcquireSlot(Announced& item) {
  if (free_slots_.empty()) {
    EntryId victim = policy_->Victim(item.entry, pinned_);
    if (victim == kNoEntry && !expected_.empty()) {  // What is needed now goes before a guess.
      ClearExpected();
      victim = policy_->Victim(item.entry, pinned_);
    }
    if (victim == kNoEntry) return kNoSlot;
    STOKER_CHECK_MSG(victim < entries_.size() && pinned_[victim] == 0 &&
                         entries_[victim].slot != kNoSlot,
                     "the policy's victim is pinned or not resident");
    policy_->OnErase(victim);
    item.access.victim = victim;
    ++stats_.evictions;
    const uint32_t slot = std::exchange(entries_[victim].slot, kNoSlot);
    slots_[slot] = Slot{};
    free_slots_.push_back(slot);
  }
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void ExpertCache::StartRead(Announced& item, uint32_t index) {
  const EntryId entry = item.entry;
  policy_->OnInsert(entry);
  entries_[entry].slot = index;
  Slot& slot = slots_[index];
  slot = Slot{};
  slot.state = SlotState::kReading;
  slot.announced = true;
  slot.entry = entry;
  slot.parts_pending = kExpertParts;
  SetPinned(slot);

  const std::array<TensorView*, kExpertParts> views = {&slot.view.gate, &slot.view.up,
                                                       &slot.view.down};
  const uint64_t alignment = pager_->alignment();
  std::byte* block = SlotMemory(index);
  for (int p = 0; p < kExpertParts; ++p) {
    const Part& part = entries_[entry].parts[p];
    *views[p] = part.shape;
    views[p]->data = block + part.extent.offset % alignment;
    item.access.bytes += part.extent.bytes;
    reads_.push_back({part.extent.file, part.extent.offset, part.extent.bytes, block, index});
    block += PaddedBytes(part.extent.offset, part.extent.bytes, alignment);
  }
}

void ExpertCache::SetPinned(const Slot& slot) {
  const bool pinned = slot.announced || slot.handles > 0 || slot.state == SlotState::kReading;
  uint8_t& bits = pinned_[slot.entry];
  bits = static_cast<uint8_t>((bits & kExpected) | (pinned ? kPinned : 0));
}

void ExpertCache::Collect(bool wait) {
  std::array<ReadCompletion, 64> completions;
  const size_t n = pager_->Reap(completions, wait);
  for (size_t i = 0; i < n; ++i) {
    Slot& slot = slots_[completions[i].tag];
    STOKER_CHECK(slot.state == SlotState::kReading && slot.parts_pending > 0);
    if (completions[i].status != ReadStatus::kOk && !slot.failed) {
      slot.failed = true;
      slot.failure = completions[i];
    }
    if (--slot.parts_pending == 0) FinishSlot(static_cast<uint32_t>(completions[i].tag));
  }
}

// All three reads of the slot have ended.
void ExpertCache::FinishSlot(uint32_t index) {
  Slot& slot = slots_[index];
  if (!slot.failed) {
    for (const Part& part : entries_[slot.entry].parts) stats_.bytes_read += part.extent.bytes;
    slot.state = SlotState::kReady;
    slot.arrival = ++arrivals_;
    SetPinned(slot);
    return;
  }
  ++stats_.failed_reads;
  if (slot.announced && failure_.status == ReadStatus::kOk) {
    failure_ = slot.failure;
    failed_entry_ = slot.entry;
  }
  policy_->OnErase(slot.entry);
  entries_[slot.entry].slot = kNoSlot;
  pinned_[slot.entry] &= kExpected;
  slot = Slot{};
  free_slots_.push_back(index);
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

ExpertHandle ExpertCache::Next() {
  STOKER_CHECK_MSG(!announced_.empty(), "no announced expert left");
  uint64_t wait_ns = 0;
  Collect(false);
  for (;;) {
    if (failure_.status != ReadStatus::kOk) ThrowFailure();
    StartQueued();
    if (Announced* item = PickReady(); item != nullptr) {
      const uint32_t index = entries_[item->entry].slot;
      Slot& slot = slots_[index];
      item->taken = true;
      item->access.wait_ns = wait_ns;
      slot.announced = false;
      ++slot.handles;
      SetPinned(slot);
      const ExpertId id = item->access.id;
      if (++n_taken_ == announced_.size()) CloseAnnouncement();
      return ExpertHandle(this, id, slot.view, index);
    }
    STOKER_CHECK_MSG(pager_->pending() > 0,
                     "no slot to be had: handles pin them all, or the policy names no victim");
    const auto start = std::chrono::steady_clock::now();
    Collect(true);
    const auto waited = std::chrono::steady_clock::now() - start;
    wait_ns += static_cast<uint64_t>(std::chrono::nanoseconds(waited).count());
    stats_.stall_ns += static_cast<uint64_t>(std::chrono::nanoseconds(waited).count());
  }
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
    SetPinned(slots_[slot]);
  }
  announced_.clear();
  n_taken_ = 0;
  next_queued_ = 0;
  streaming_ = false;
  failure_ = ReadCompletion{};
  failed_entry_ = kNoEntry;
  if (observer_ != nullptr) observer_->OnAccesses(accesses_);
}

void ExpertCache::Unpin(ExpertId /*id*/, uint32_t index) {
  Slot& slot = slots_[index];
  STOKER_CHECK(slot.handles > 0);
  --slot.handles;
  SetPinned(slot);
}

bool ExpertCache::Contains(ExpertId id) const {
  const uint32_t slot = entries_[EntryOf(config_, id)].slot;
  return slot != kNoSlot && slots_[slot].state == SlotState::kReady;
}

CacheStats ExpertCache::stats() const {
  CacheStats stats = stats_;
  stats.pager = pager_->stats();
  return stats;
}

void ExpertCache::ResetStats() { stats_ = CacheStats{}; }

}  // namespace stoker
