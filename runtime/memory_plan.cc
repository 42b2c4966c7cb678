#include "runtime/memory_plan.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "experts/resident_loader.h"
#include "experts/row_reader.h"
#include "numa/bytes.h"
#include "numa/team_plan.h"
#include "runtime/layers/workspace.h"
#include "runtime/matmul/fast_backend.h"
#include "runtime/model.h"

namespace stoker {
namespace {

// Memory that is ours but in no row of the table: binary, stacks, small allocations, the tokenizer
// (measured with two workers and 200,000 words: 43 MiB beyond the rows).
constexpr uint64_t kSlackBytes = 96 * kMiB;

// Tokens whose projections wait for the next layer: when so many of a chunk of 512 have all their
// experts, the last few are read while theirs are computed (48 MiB of M1's width).
constexpr int64_t kMostRowsAhead = 384;

// Without --memory this part of the free memory (1/20) is left to others, whose needs change.
constexpr uint64_t kSparedFraction = 20;

bool HasBf16Matrices(const WeightStore& store) {
  return std::any_of(store.tensors().begin(), store.tensors().end(), [](const StoredTensor& t) {
    return t.type == DType::kBF16 && t.shape.size() > 1;
  });
}

// What the scratch of a model with these options is sized for.
WorkspaceSize SizeOfWorkspace(const EngineOptions& options, const WeightStore& store,
                              int64_t chunk_tokens) {
  return {.max_tokens = chunk_tokens,
          .max_logit_rows = options.logit_rows,
          .n_ctx = options.n_ctx,
          .residual = WantsResidual(store),
          .bf16_parts = MaySplitBf16(ActiveIsaLevel()) && HasBf16Matrices(store),
          .f32_experts = options.precision == Precision::kExact || options.reference_backend ||
                         HasPlainExperts(store)};
}

uint64_t WorkspaceBytes(const ModelConfig& config, const WorkspaceSize& size,
                        const std::vector<WorkerPlace>& places) {
  return Model::WorkspaceBytes(config, size, CountNodes(places), static_cast<int>(places.size()));
}

// The fewest slots that something else may leave: a layer's experts, the next one's, and one on its
// way.
uint32_t FewestSlots(const ModelConfig& config) {
  return static_cast<uint32_t>(2 * config.n_experts_per_token + 1);
}

}  // namespace

std::string_view LeftOnDisk(const ModelConfig& config) {
  return config.tied_embeddings ? std::string_view() : kEmbedding;
}

PolicyConfig WholeModelPolicy(const ModelConfig& config) {
  PolicyConfig policy;
  policy.n_layers = static_cast<int32_t>(config.n_layers);
  policy.n_experts = static_cast<int32_t>(config.n_experts);
  policy.top_k = static_cast<int32_t>(config.n_experts_per_token);
  policy.capacity = policy.n_entries();
  return policy;
}

BudgetRow CacheRow(const CachePlan& cache, const ModelConfig& config) {
  return {"expert cache, " + std::to_string(cache.n_slots) + " of " +
              std::to_string(config.n_layers * config.n_experts) + " experts",
          cache.memory_bytes()};
}

CachePlan PlanSlots(const EngineOptions& options, const WeightStore& store, const Pager& pager,
                    const MemoryPlan& plan, const Partition& partition) {
  uint64_t budget = plan.cache_budget_bytes;
  if (options.cache_slots > 0) {
    const CachePlan all = PlanCache(store, pager, UINT64_MAX, false, partition);
    budget = all.slot_bytes * options.cache_slots + all.lost_bytes;
  }
  return PlanCache(store, pager, budget, plan.prefetch, partition);
}

namespace {

// What reads the rows of the embedding, where it stays on disk.
uint64_t RowReaderBytes(const WeightStore& store, const Pager& pager, int64_t chunk_tokens) {
  const std::string_view left_out = LeftOnDisk(store.config());
  return left_out.empty()
             ? 0
             : RowReader::MemoryBytes(store, pager, store.Get(left_out), chunk_tokens);
}

// What PlanFor decides with this scratch.
MemoryPlan PlanWith(const WorkspaceSize& workspace, const EngineOptions& options,
                    const WeightStore& store, const Pager* pager,
                    const std::vector<WorkerPlace>& places, uint64_t usable) {
  const ModelConfig& config = store.config();
  MemoryPlan plan;
  plan.workspace = workspace;
  const KvTypes kv = ChooseKvTypes(options.kv, options.precision, store);
  plan.rows = {
      {"sequence state, " + std::to_string(options.n_ctx) + " positions",
       SequenceState::BytesFor(config, options.n_ctx, kv) + SequenceState::LightningBytes(config)},
      {"workspace, chunks of " + std::to_string(options.chunk_tokens) + " tokens",
       WorkspaceBytes(config, workspace, places)},
      {"scratch of products, " + std::to_string(places.size()) + " workers",
       FastBackendBytes(ActiveIsaLevel(), static_cast<int>(places.size()))},
      {"program", kSlackBytes}};
  if (store.row_scale_bytes() > 0) {
    plan.rows.push_back({"scales of INT8 rows", store.row_scale_bytes()});
  }
  if (options.result_bytes) plan.rows.push_back({"results", options.result_bytes(config)});
  uint64_t fixed = 0;
  for (const BudgetRow& row : plan.rows) fixed += row.bytes;

  const uint64_t limit = options.memory_bytes.value_or(usable - usable / kSparedFraction);
  if (limit > usable) {
    throw std::runtime_error("--memory " + FormatBytes(limit) + " exceeds the free memory of " +
                             FormatBytes(usable) + "; lower --memory");
  }
  if (fixed > limit) {
    throw std::runtime_error("sequence state and workspace need " + FormatBytes(fixed) +
                             ", more than the " + FormatBytes(limit) +
                             " that may be used; lower the context (-c; of bench -p, -n and -d) "
                             "or -ub, or raise --memory");
  }
  const uint64_t left = limit - fixed;
  if (pager == nullptr) {
    plan.mode = MemoryMode::kMapped;
    return plan;
  }
  const uint64_t all = ResidentWeights::MemoryBytes(store, *pager, /*experts=*/true);
  const std::string_view left_out = LeftOnDisk(config);
  const uint64_t dense =
      ResidentWeights::MemoryBytes(store, *pager, /*experts=*/false, left_out) +
      RowReaderBytes(store, *pager, options.chunk_tokens);
  plan.mode = options.mode;
  if (plan.mode == MemoryMode::kAuto) {
    plan.mode = all <= left ? MemoryMode::kResident : MemoryMode::kPaged;
  }
  const auto refuse = [&](const std::string& what, uint64_t bytes, const std::string& remedy) {
    throw std::runtime_error(what + " need " + FormatBytes(fixed + bytes) + ", more than the " +
                             FormatBytes(limit) + " that may be used; " + remedy);
  };
  if (plan.mode == MemoryMode::kResident) {
    if (all > left) refuse("resident weights", all, "use --mode paged or raise --memory");
    plan.spare_bytes = left - all;
    plan.rows.insert(plan.rows.begin(), {"weights", all});
    return plan;
  }
  if (dense > left) refuse("the weights outside the experts", dense, "raise --memory");
  // The page cache reads ahead as it likes; only direct I/O can be kept behind demand.
  plan.prefetch = options.prefetch != PrefetchMode::kOff && pager->backend() != IoBackend::kMapped;
  plan.cache_budget_bytes = left - dense;
  plan.cache = PlanSlots(options, store, *pager, plan, Partition(1));
  plan.rows.insert(plan.rows.begin(),
                   {{"weights outside the experts", dense}, CacheRow(plan.cache, config)});
  return plan;
}

// See PlanMemory; the length of chunks is known. Where a layer's experts do not fit into the slots,
// so that a prompt's reads stop during attention, there is scratch to shorten that.
MemoryPlan PlanFor(const EngineOptions& options, const WeightStore& store, const Pager* pager,
                   const std::vector<WorkerPlace>& places, uint64_t usable) {
  const ModelConfig& config = store.config();
  WorkspaceSize workspace = SizeOfWorkspace(options, store, options.chunk_tokens);
  MemoryPlan plan = PlanWith(workspace, options, store, pager, places, usable);
  const bool few_slots = plan.mode == MemoryMode::kPaged && plan.cache.n_slots < config.n_experts;
  if (!few_slots || CountNodes(places) > 1 || options.chunk_tokens <= kPieceTokens) return plan;
  workspace.rows_ahead = std::min(kMostRowsAhead, 3 * options.chunk_tokens / 4);
  const uint64_t more = WorkspaceBytes(config, workspace, places) -
                        WorkspaceBytes(config, plan.workspace, places);
  const uint64_t least = FewestSlots(config) * plan.cache.slot_bytes;
  if (more + least > plan.cache_budget_bytes) return plan;
  return PlanWith(workspace, options, store, pager, places, usable);
}

// What a chunk of so many tokens costs, where `plan`, that of the shortest, has room for it.
std::optional<ChunkCost> CostOf(const EngineOptions& options, const WeightStore& store,
                                const Pager& pager, const std::vector<WorkerPlace>& places,
                                const PromptRates& rates, MemoryPlan plan, int64_t tokens) {
  const bool paged = plan.mode == MemoryMode::kPaged;
  const auto bytes = [&](int64_t of_tokens) {
    return WorkspaceBytes(store.config(), SizeOfWorkspace(options, store, of_tokens), places) +
           (paged ? RowReaderBytes(store, pager, of_tokens) : 0);
  };
  const uint64_t more = bytes(tokens) - bytes(kChunkLengths[0]);
  if (!paged) {
    if (more > plan.spare_bytes) return std::nullopt;
    return EstimateChunk(store, rates, tokens, std::nullopt);
  }
  const uint64_t least = FewestSlots(store.config()) * plan.cache.slot_bytes;
  if (more > 0 && more + least > plan.cache_budget_bytes) return std::nullopt;
  plan.cache_budget_bytes -= more;
  const CachePlan cache = PlanSlots(options, store, pager, plan, Partition(1));
  return EstimateChunk(store, rates, tokens, cache.n_slots);
}

}  // namespace

MemoryPlan PlanMemory(EngineOptions* options, const WeightStore& store, const Pager* pager,
                      const std::vector<WorkerPlace>& places, uint64_t usable,
                      const PromptRates& rates) {
  if (options->chunk_tokens > 0) return PlanFor(*options, store, pager, places, usable);
  options->chunk_tokens = kChunkLengths[0];
  MemoryPlan plan = PlanFor(*options, store, pager, places, usable);
  if (pager == nullptr) return plan;
  std::vector<ChunkCost> costs;
  for (const int64_t tokens : kChunkLengths) {
    if (tokens > kChunkLengths[0] && tokens > options->n_ctx) break;
    const std::optional<ChunkCost> cost =
        CostOf(*options, store, *pager, places, rates, plan, tokens);
    if (!cost) break;
    costs.push_back(*cost);
  }
  options->chunk_tokens = ChooseChunk(costs);
  if (options->chunk_tokens != kChunkLengths[0]) {
    plan = PlanFor(*options, store, pager, places, usable);
  }
  plan.chunk_costs = std::move(costs);
  return plan;
}

std::string_view MemoryModeName(MemoryMode mode) {
  switch (mode) {
    case MemoryMode::kResident:
      return "resident";
    case MemoryMode::kMapped:
      return "mapped";
    case MemoryMode::kPaged:
      return "paged";
    case MemoryMode::kAuto:
      break;
  }
  return "auto";
}

}  // namespace stoker
