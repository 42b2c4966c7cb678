#pragma once

// How many experts a budget holds, and where the parts of each lie: the plan that an ExpertCache is
// made from. Pure arithmetic on the extents of a store; it allocates no slot.

#include <cstdint>
#include <vector>

#include "experts/cache_policy.h"
#include "experts/expert_source.h"
#include "experts/pager.h"
#include "numa/partition.h"

namespace stoker {

// Reads of a layer that may be asked for together: what a pager holds by default, less a reserve
// for slots that drain.
inline constexpr uint32_t kMostLayerReads = 3072;

// One node's part of the slots: a region of memory in which its parts of all slots follow each
// other, and where in such a part the rows of each matrix begin.
struct SlotRegion {
  uint64_t begin = 0;       // of the region, multiple of a huge page
  uint64_t slot_bytes = 0;  // of one slot's part
  uint64_t offset[kExpertParts] = {};
};

// Slots for a budget, and what a policy must know of them.
struct CachePlan {
  uint64_t slot_bytes = 0;  // over all regions
  uint32_t n_slots = 0;    // that the policy rules over: its capacity
  uint32_t n_staging = 0;  // more, for reads on speculation
  uint64_t block_bytes = 2 * 1024 * 1024;  // least bytes of a block of rows
  PolicyConfig policy;
  std::vector<SlotRegion> regions;  // by node of the partition
  uint64_t lost_bytes = 0;          // at most, between regions
  uint64_t memory_bytes() const {
    const uint64_t last_begin = regions.empty() ? 0 : regions.back().begin;
    const uint64_t last_bytes = regions.empty() ? 0 : regions.back().slot_bytes;
    return last_begin + last_bytes * (n_slots + n_staging);
  }
};

// The part of a matrix of `rows` rows that a node of the partition reads.
FileExtent NodeExtent(const Partition& partition, int node, const FileExtent& extent, int64_t rows);

// budget_bytes: for slots alone; what exceeds all experts of the model is left. `prefetch`: sets
// slots aside for it, one in 64, at least one and at most top_k, where more than two are to be had.
// `partition` is that of the team which will compute. Throws std::runtime_error with numbers when
// the budget holds fewer than two slots, and when a layer's experts in the parts of all nodes are
// more than kMostLayerReads.
CachePlan PlanCache(const WeightStore& store, const Pager& pager, uint64_t budget_bytes,
                    bool prefetch = false, const Partition& partition = Partition(1));

}  // namespace stoker
