#include "experts/cache_plan.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "numa/bytes.h"

namespace stoker {
namespace {

constexpr uint32_t kMinSlots = 2;  // one expert computed on, one arriving
constexpr uint32_t kSlotsPerStagingSlot = 64;
constexpr uint64_t kHugePageBytes = 2 * kMiB;

}  // namespace

FileExtent NodeExtent(const Partition& partition, int node, const FileExtent& extent,
                      int64_t rows) {
  const auto [begin, end] = partition.NodeRows(node, rows);
  const uint64_t row_bytes = extent.bytes / static_cast<uint64_t>(rows);
  return {extent.file, extent.offset + static_cast<uint64_t>(begin) * row_bytes,
          static_cast<uint64_t>(end - begin) * row_bytes};
}

CachePlan PlanCache(const WeightStore& store, const Pager& pager, uint64_t budget_bytes,
                    bool prefetch, const Partition& partition) {
  const ModelConfig& model = store.config();
  CachePlan plan;
  const auto n_nodes = static_cast<size_t>(partition.n_nodes());
  const uint64_t n_reads = model.n_experts * kExpertParts * n_nodes;
  if (n_reads > kMostLayerReads) {
    throw std::runtime_error("expert cache: " + std::to_string(model.n_experts) +
                             " experts a layer in parts for " + std::to_string(n_nodes) +
                             " NUMA nodes are " + std::to_string(n_reads) +
                             " reads at once of at most " + std::to_string(kMostLayerReads) +
                             "; use --numa interleave");
  }
  std::vector<std::array<uint64_t, kExpertParts>> largest(n_nodes);
  plan.policy.n_layers = static_cast<int32_t>(model.n_layers);
  plan.policy.n_experts = static_cast<int32_t>(model.n_experts);
  plan.policy.top_k = static_cast<int32_t>(model.n_experts_per_token);
  for (int32_t layer = 0; layer < plan.policy.n_layers; ++layer) {
    uint64_t layer_bytes = 0;
    for (int32_t expert = 0; expert < plan.policy.n_experts; ++expert) {
      for (int p = 0; p < kExpertParts; ++p) {
        const ExpertPartExtent part = store.Expert({layer, expert}, static_cast<ExpertPart>(p));
        layer_bytes += part.extent.bytes;
        for (size_t node = 0; node < n_nodes; ++node) {
          const FileExtent extent =
              NodeExtent(partition, static_cast<int>(node), part.extent, part.rows);
          uint64_t& most = largest[node][static_cast<size_t>(p)];
          most = std::max(most, PaddedBytes(extent.offset, extent.bytes, pager.alignment()));
        }
      }
    }
    plan.policy.layer_cost.push_back(static_cast<float>(layer_bytes) /
                                     static_cast<float>(plan.policy.n_experts));
  }
  // A slot takes any expert, so each matrix has room for the largest of its kind.
  plan.regions.resize(n_nodes);
  for (size_t node = 0; node < n_nodes; ++node) {
    SlotRegion& region = plan.regions[node];
    for (size_t p = 0; p < kExpertParts; ++p) {
      region.offset[p] = region.slot_bytes;
      region.slot_bytes += largest[node][p];
    }
    plan.slot_bytes += region.slot_bytes;
  }
  // What the regions lose by beginning on huge pages.
  plan.lost_bytes = (n_nodes - 1) * kHugePageBytes;
  const uint64_t lost = std::min(budget_bytes, plan.lost_bytes);
  const uint64_t n_slots =
      std::min<uint64_t>((budget_bytes - lost) / plan.slot_bytes, plan.policy.n_entries());
  const uint64_t fewest = std::min<uint64_t>(kMinSlots, plan.policy.n_entries());
  if (n_slots < fewest) {
    throw std::runtime_error("expert budget " + FormatBytes(budget_bytes) + " holds " +
                             std::to_string(n_slots) + " of at least " + std::to_string(fewest) +
                             " experts of " +
                             FormatBytes(plan.slot_bytes) + "; raise --memory by " +
                             FormatBytes(fewest * plan.slot_bytes + plan.lost_bytes -
                                         budget_bytes));
  }
  for (size_t node = 1; node < n_nodes; ++node) {
    const SlotRegion& before = plan.regions[node - 1];
    plan.regions[node].begin = AlignUp(before.begin + before.slot_bytes * n_slots, kHugePageBytes);
  }
  plan.n_slots = static_cast<uint32_t>(n_slots);
  if (prefetch && n_slots > kMinSlots && n_slots < plan.policy.n_entries()) {
    // A token's guess is top_k experts; a chunk's finds free slots to borrow.
    const auto top_k = static_cast<uint32_t>(plan.policy.top_k);
    plan.n_staging = std::clamp(plan.n_slots / kSlotsPerStagingSlot, 1U, std::max(top_k, 1U));
    plan.n_slots -= plan.n_staging;
  }
  plan.policy.capacity = plan.n_slots;
  return plan;
}

}  // namespace stoker
