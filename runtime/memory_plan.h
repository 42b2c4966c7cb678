#pragma once

// How the Engine's memory will be used: the mode, the rows of the budget table and, in paged mode,
// the size of the expert cache. Pure but for the headers it is given; loads nothing.

#include <cstdint>
#include <string_view>
#include <vector>

#include "experts/cache_plan.h"
#include "experts/pager.h"
#include "mmap/weight_store.h"
#include "numa/partition.h"
#include "numa/worker_placement.h"
#include "runtime/chunk_length.h"
#include "runtime/engine.h"

namespace stoker {

inline constexpr std::string_view kEmbedding = "token_embd.weight";

struct MemoryPlan {
  MemoryMode mode = MemoryMode::kResident;
  std::vector<BudgetRow> rows;
  uint64_t cache_budget_bytes = 0;
  bool prefetch = false;
  CachePlan cache;
  WorkspaceSize workspace;
  uint64_t spare_bytes = 0;            // of what may be used, with every weight in memory
  std::vector<ChunkCost> chunk_costs;  // of the lengths of a chunk there was a choice of
};

// Decides the mode from what may be used, and the length of a prompt's chunks where the options
// leave it open: of those whose workspace the budget has room for, up to the context, the one that
// pays by these rates (chunk_length.h); the shortest in mapped mode, where `pager` is null. Throws
// std::runtime_error with the numbers when the budget cannot be met.
MemoryPlan PlanMemory(EngineOptions* options, const WeightStore& store, const Pager* pager,
                      const std::vector<WorkerPlace>& places, uint64_t usable,
                      const PromptRates& rates);

// The slots of the plan's budget, or so many as the options ask for.
CachePlan PlanSlots(const EngineOptions& options, const WeightStore& store, const Pager& pager,
                    const MemoryPlan& plan, const Partition& partition);

// The budget table's row for a cache.
BudgetRow CacheRow(const CachePlan& cache, const ModelConfig& config);

// The tensor that paged mode does not load: a token uses one row of the embedding, and where memory
// is short its 0.7 GB are seven experts more. A tied one is the output matrix too.
std::string_view LeftOnDisk(const ModelConfig& config);

// A cache of every expert: what a policy must know to be made at all.
PolicyConfig WholeModelPolicy(const ModelConfig& config);

}  // namespace stoker
