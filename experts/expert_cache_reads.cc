// The reading half of ExpertCache: blocks of rows into slots, on demand and on speculation.

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "experts/expert_cache.h"
#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

// Blocks pending above which nothing more is read on speculation: a layer's demand must still fit
// into what a pager holds by default.
constexpr size_t kMaxPendingAhead = 900;

}  // namespace

// Blocks begin at aligned offsets of the file, so that neighbours do not read the same sector into
// one place.
uint64_t ExpertCache::BlockOffset(const FileExtent& extent, uint32_t block) const {
  const uint64_t aligned = AlignDown(extent.offset, pager_->alignment());
  return std::clamp(aligned + block * block_bytes_, extent.offset, extent.offset + extent.bytes);
}

void ExpertCache::StartRead(Announced& item, uint32_t index) {
  Entry& entry = entries_[item.entry];
  policy_->OnInsert(item.entry);
  if (entry.staged != kNoSlot) {
    TakeStaged(item.entry, index);
  } else {
    ReadBlocks(item.entry, index, ReadUrgency::kDemanded);
    entry.slot = index;
  }
  Slot& slot = slots_[entry.slot];
  slot.announced = true;
  SetPinned(slot);
  for (const Part& part : entry.parts) item.access.bytes += part.extent.bytes;
}

// Adds the reads of all blocks to reads_.
void ExpertCache::ReadBlocks(EntryId entry, uint32_t index, ReadUrgency urgency) {
  Slot& slot = slots_[index];
  const bool staged = slot.staged;
  slot = Slot{};
  slot.staged = staged;
  slot.state = SlotState::kReading;
  slot.entry = entry;
  const std::array<TensorView*, kExpertParts> views = {&slot.view.gate, &slot.view.up,
                                                       &slot.view.down};
  for (uint32_t p = 0; p < kExpertParts; ++p) {
    *views[p] = entries_[entry].parts[p].shape;
    views[p]->may_relay = true;
    ReadMatrix(index, p, urgency, *views[p]);
  }
}

// The blocks of one matrix, which belongs to every node in part; points the view to where they go.
void ExpertCache::ReadMatrix(uint32_t index, uint32_t p, ReadUrgency urgency,
                             TensorView& view) {
  Slot& slot = slots_[index];
  const FileExtent& whole = entries_[slot.entry].parts[p].extent;
  const uint64_t alignment = pager_->alignment();
  const size_t n_nodes = regions_.size();
  uint32_t block = 0;
  for (size_t node = 0; node < n_nodes; ++node) {
    const FileExtent extent = NodeExtent(partition_, static_cast<int>(node), whole, view.rows());
    if (extent.bytes == 0) continue;
    std::byte* const memory = SlotPart(index, node, p);
    const std::byte* const data = memory + extent.offset % alignment;
    if (view.data == nullptr) view.data = data;
    if (n_nodes > 1) {
      RowPiece* pieces = pieces_.data() + (index * kExpertParts + p) * n_nodes;
      view.pieces = pieces;
      pieces[view.n_pieces++] = {partition_.NodeRows(static_cast<int>(node), view.rows()).first,
                                 data};
    }
    const uint64_t aligned = AlignDown(extent.offset, alignment);
    uint64_t begin = extent.offset;
    for (uint32_t i = 0; begin < extent.offset + extent.bytes; ++i, ++block) {
      const uint64_t end = BlockOffset(extent, i + 1);
      // With one node every block has a bit of its own; with more, rows are not waited for.
      STOKER_CHECK(block < kMaxBlocks || n_nodes > 1);
      reads_.push_back(
          {extent.file, begin, end - begin, memory + (AlignDown(begin, alignment) - aligned),
           Tags(index).first + p * kMaxBlocks + std::min(block, kMaxBlocks - 1), urgency});
      ++slot.blocks_pending;
      begin = end;
    }
  }
}

// Rows of the part that are there, counted from the first. Blocks of several nodes are cut node by
// node and share bits: of those all rows are there or none.
int64_t ExpertCache::RowsReady(const Slot& slot, int part) const {
  const Part& matrix = entries_[slot.entry].parts[part];
  if (regions_.size() > 1) return slot.state == SlotState::kReady ? matrix.shape.rows() : 0;
  const auto blocks = static_cast<uint32_t>(std::countr_one(slot.arrived[part]));
  const uint64_t bytes = BlockOffset(matrix.extent, blocks) - matrix.extent.offset;
  return static_cast<int64_t>(bytes / matrix.shape.row_bytes());
}

void ExpertCache::Collect(bool wait) {
  std::array<ReadCompletion, 64> completions;
  const size_t n = pager_->Reap(completions, wait);
  for (size_t i = 0; i < n; ++i) {
    const auto index = static_cast<uint32_t>(completions[i].tag / kTagsPerSlot);
    const auto block = static_cast<uint32_t>(completions[i].tag % kTagsPerSlot);
    Slot& slot = slots_[index];
    STOKER_CHECK(slot.blocks_pending > 0);
    slot.bytes_arrived += completions[i].bytes;
    if (completions[i].status == ReadStatus::kOk) {
      slot.arrived[block / kMaxBlocks] |= static_cast<uint16_t>(1U << block % kMaxBlocks);
    } else if (!slot.failed) {
      slot.failed = true;
      slot.failure = completions[i];
      // Nobody has asked for it; who does will read it again, and hear of the error then.
      if (slot.staged && slot.state == SlotState::kReading) DropStaged(index);
    }
    if (--slot.blocks_pending == 0) FinishSlot(index);
  }
}

// All reads of the slot have ended.
void ExpertCache::FinishSlot(uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.state == SlotState::kDraining) {
    FreeStaged(index);
    return;
  }
  if (!slot.failed) {
    slot.state = SlotState::kReady;
    slot.arrival = ++arrivals_;
    if (slot.staged) return;
    for (const Part& part : entries_[slot.entry].parts) stats_.bytes_read += part.extent.bytes;
    SetPinned(slot);
    LetPass(index);
    return;
  }
  ++stats_.failed_reads;
  if (slot.announced && failure_.status == ReadStatus::kOk) {
    failure_ = slot.failure;
    failed_entry_ = slot.entry;
  }
  pinned_[slot.entry] &= kExpected;
  if (slot.handles == 0) {
    Erase(index);
    return;
  }
  policy_->OnErase(slot.entry);
  entries_[slot.entry].slot = kNoSlot;
  slot.state = SlotState::kDraining;  // until the handle goes
}

// --- On speculation -------------------------------------------------------------------------

bool ExpertCache::wants_guesses() const { return !staging_.empty(); }

void ExpertCache::Poll() {
  Collect(false);
  Speculate();
  // While something is asked for it will be waited for first.
  if (announced_.empty()) pager_->FillQueues();
}

void ExpertCache::Speculate() {
  if (staging_.empty() || !governor_.Allows()) return;
  // The guess of a prompt's chunk is most of a layer, and nearly all of it right.
  const bool chunk = 2 * expected_.size() >= static_cast<size_t>(config_.n_experts) &&
                     expected_.size() > static_cast<size_t>(config_.top_k);
  for (const EntryId entry : expected_) {
    if (pager_->pending() > kMaxPendingAhead) break;
    if (entries_[entry].slot != kNoSlot || entries_[entry].staged != kNoSlot) continue;
    const uint32_t index = FindStagingSlot();
    if (index == kNoSlot) break;
    ReadBlocks(entry, index, chunk ? ReadUrgency::kLikely : ReadUrgency::kGuessed);
    entries_[entry].staged = index;
    SubmitReads();
  }
}

// One that holds nothing expected; what it holds is given up. Else one that nobody will need for
// what is announced. kNoSlot when all are in use.
uint32_t ExpertCache::FindStagingSlot() {
  const auto is_free = [](const Slot& slot) { return slot.state == SlotState::kFree; };
  if (const uint32_t index = FindStaged(is_free); index != kNoSlot) return index;
  for (size_t i = 0; i < staging_.size(); ++i) {
    const uint32_t index = staging_[i];
    const Slot& slot = slots_[index];
    const bool expected =
        std::find(expected_.begin(), expected_.end(), slot.entry) != expected_.end();
    if (slot.state == SlotState::kDraining || expected || AskedFor(slot.entry)) continue;
    const bool reading = slot.state == SlotState::kReading;
    DropStaged(index);
    if (reading) continue;
    if (slot.staged) return index;
    break;  // It was borrowed, and is to be had again.
  }
  if (free_slots_.empty() || !all_started()) return kNoSlot;
  const uint32_t index = PopFreeSlot();
  slots_[index].staged = true;
  staging_.push_back(index);
  ++n_borrowed_;
  return index;
}

bool ExpertCache::AskedFor(EntryId entry) const {
  return std::any_of(announced_.begin(), announced_.end(),
                     [entry](const Announced& item) { return item.entry == entry; });
}

// Gives a staged expert up. Its slot is free at once or when its reads have ended. Returns the
// bytes of it in flight.
uint64_t ExpertCache::DropStaged(uint32_t index) {
  Slot& slot = slots_[index];
  entries_[slot.entry].staged = kNoSlot;
  if (slot.state == SlotState::kReady) {
    FreeStaged(index);
    return 0;
  }
  slot.state = SlotState::kDraining;
  return pager_->Drop(Tags(index));
}

void ExpertCache::FreeStaged(uint32_t index) {
  Slot& slot = slots_[index];
  ++stats_.prefetch_wasted;
  stats_.prefetch_wasted_bytes += slot.bytes_arrived;
  if (observer_ != nullptr) {
    observer_->OnSpeculativeRead({config_.Expert(slot.entry), false, slot.bytes_arrived});
  }
  slot = Slot{};
  slot.staged = true;
  if (n_borrowed_ == 0) return;
  --n_borrowed_;
  std::erase(staging_, index);
  FreeSlot(index);
}

// A staged expert is asked for: it takes the place of `free_slot`, which is set aside instead,
// unless it is the one the expert lies in.
void ExpertCache::TakeStaged(EntryId entry, uint32_t free_slot) {
  const uint32_t index = std::exchange(entries_[entry].staged, kNoSlot);
  entries_[entry].slot = index;
  if (free_slot != index) {
    std::replace(staging_.begin(), staging_.end(), index, free_slot);
    slots_[free_slot] = Slot{};
    slots_[free_slot].staged = true;
  }
  Slot& slot = slots_[index];
  slot.staged = false;
  if (slot.state == SlotState::kReading) {
    pager_->Promote(Tags(index));
  } else {
    for (const Part& part : entries_[entry].parts) stats_.bytes_read += part.extent.bytes;
  }
  ++stats_.prefetch_used;
  stats_.prefetch_used_bytes += slot.bytes_arrived;
  governor_.OnUsed(slot.bytes_arrived);
  if (observer_ != nullptr) {
    observer_->OnSpeculativeRead({config_.Expert(entry), true, slot.bytes_arrived});
  }
}

// Of the layer just announced: reads that nobody asked for make room for those that are.
void ExpertCache::DropWrongGuesses(int32_t layer) {
  uint64_t in_flight = 0;
  for (const uint32_t index : staging_) {
    const Slot& slot = slots_[index];
    if (slot.state != SlotState::kReading || config_.Expert(slot.entry).layer != layer) continue;
    if (!AskedFor(slot.entry)) in_flight += DropStaged(index);
  }
  const bool demand = std::any_of(announced_.begin(), announced_.end(),
                                  [](const Announced& item) { return !item.access.hit; });
  if (demand) governor_.OnDelayed(in_flight);
}

void ExpertCache::JudgeGuesses(std::span<const ExpertId> ids, bool decode) {
  GuessAccuracy accuracy;
  const auto count = [&](const std::vector<EntryId>& guess, uint64_t* guessed, uint64_t* right) {
    for (const EntryId entry : guess) {
      if (config_.Expert(entry).layer != last_layer_) return;
      ++*guessed;
      *right += std::find(ids.begin(), ids.end(), config_.Expert(entry)) != ids.end() ? 1 : 0;
    }
  };
  // A prompt's chunk uses nearly every expert: guessing them is no art.
  if (decode) {
    for (const auto* guess : {&expected_, &last_expected_}) {
      count(*guess, &accuracy.guessed, &accuracy.right);
    }
    for (const auto* guess : {&early_, &last_early_}) {
      count(*guess, &accuracy.early_guessed, &accuracy.early_right);
    }
  }
  last_expected_.clear();
  last_early_.clear();
  governor_.OnRequest(last_layer_, accuracy);
}

}  // namespace stoker
