#include "runtime/placement_input.h"

#include <algorithm>
#include <string>

#include "experts/resident_loader.h"
#include "numa/bandwidth.h"
#include "numa/memory_limits.h"
#include "numa/partition.h"
#include "numa/team_plan.h"
#include "numa/thread_team.h"

namespace stoker {
namespace {

// "blk.3.attn_qkv.weight" -> "attn_qkv".
std::string KindOf(const std::string& name) {
  std::string kind = name;
  if (kind.starts_with("blk.")) kind = kind.substr(kind.find('.', 4) + 1);
  if (kind.ends_with(".weight")) kind.resize(kind.size() - 7);
  return kind;
}

bool IsExpert(const std::string& kind) {
  return kind.ends_with("_exps") || kind.starts_with("ffn_gate.") || kind.starts_with("ffn_up.") ||
         kind.starts_with("ffn_down.");
}

// Counts one more matrix of a kind: those of one name and shape are planned together.
void AddMatrix(PlanInput& input, PlannedTensor tensor) {
  for (PlannedTensor& known : input.tensors) {
    if (known.name == tensor.name && known.rows == tensor.rows &&
        known.row_bytes == tensor.row_bytes) {
      known.count += tensor.count;
      return;
    }
  }
  input.tensors.push_back(std::move(tensor));
}

void AddExperts(const WeightStore& store, const PlacementShape& shape, PlanInput& input) {
  const ModelConfig& config = store.config();
  constexpr const char* kNames[kExpertParts] = {"expert gate", "expert up", "expert down"};
  const auto n_experts = static_cast<double>(config.n_experts);
  for (int p = 0; p < kExpertParts; ++p) {
    PlannedTensor slots;  // the largest of each kind, for the cache
    for (int32_t layer = 0; layer < config.n_layers; ++layer) {
      const ExpertPartExtent part = store.Expert({layer, 0}, static_cast<ExpertPart>(p));
      const PlannedTensor experts{
          .name = kNames[p],
          .rows = part.rows,
          .row_bytes = static_cast<int64_t>(part.extent.bytes) / part.rows,
          .row_grain = kRowGrain,
          .count = config.n_experts,
          .touched_per_token = static_cast<double>(config.n_experts_per_token) / n_experts};
      if (shape.n_slots == 0) {
        AddMatrix(input, experts);
      } else if (experts.row_bytes >= slots.row_bytes) {
        slots = experts;
      }
    }
    if (shape.n_slots == 0) continue;
    slots.name = "slot, " + slots.name;
    slots.count = shape.n_slots;
    slots.touched_per_token =
        static_cast<double>(config.n_experts_per_token * config.n_layers) / shape.n_slots;
    AddMatrix(input, slots);
  }
}

}  // namespace

PlanInput MakePlanInput(const WeightStore& store, const PlacementShape& shape) {
  const ModelConfig& config = store.config();
  PlanInput input;
  for (const StoredTensor& stored : store.tensors()) {
    const std::string kind = KindOf(stored.name);
    if (IsExpert(kind) || stored.extent.bytes == 0) continue;
    const size_t n_dims = stored.shape.size();
    const int64_t rows = n_dims >= 2 ? stored.shape[n_dims - 2] : 1;
    const int64_t unit = store.RowUnit(stored);
    const TensorPlacement placement = PlacementOf(store, stored);
    const bool is_table = placement == TensorPlacement::kInterleaved;
    AddMatrix(input, {.name = kind,
                      .rows = rows,
                      .row_bytes = static_cast<int64_t>(stored.extent.bytes) / rows,
                      .row_grain = unit > 1 ? unit : kRowGrain,
                      .placement = placement,
                      .touched_per_token = is_table ? 1.0 / static_cast<double>(rows) : 1.0});
  }
  AddExperts(store, shape, input);
  const auto floats = static_cast<int64_t>(sizeof(float));
  if (config.n_lightning_layers() > 0) {
    AddMatrix(input, {.name = "lightning state",
                      .rows = config.n_heads,
                      .row_bytes = config.head_dim * config.head_dim * floats,
                      .count = config.n_lightning_layers(),
                      .is_weight = false});
  }
  if (config.n_softmax_layers() > 0) {
    AddMatrix(input, {.name = "KV cache",
                      .rows = config.n_kv_heads,
                      .row_bytes = shape.n_ctx * config.head_dim *
                                   (KvBytes(shape.kv.keys) + KvBytes(shape.kv.values)),
                      .count = config.n_softmax_layers(),
                      .is_weight = false});
  }
  // Heads and gate, attention output, each expert's intermediate and output, all f32.
  const int64_t attn_width = config.n_heads * config.head_dim;
  const int64_t per_layer =
      attn_width + config.hidden_size +
      config.n_experts_per_token * (config.expert_hidden_size + config.hidden_size);
  input.exchanged_bytes_per_token = static_cast<uint64_t>(
      floats * (config.n_layers * per_layer + config.n_lightning_layers() * attn_width));
  return input;
}

std::vector<double> MeasureNodes(const Topology& topology, const std::vector<WorkerPlace>& places,
                                 const NumaChoice& choice, bool pin) {
  const bool may_shard = choice.mode == NumaMode::kAuto || choice.mode == NumaMode::kShard;
  if (!may_shard || choice.virtual_nodes > 0 || !choice.shares.empty()) return {};
  if (!topology.is_this_system || CountNodes(places) < 2) return {};
  const uint64_t bytes = ProbeBytes(topology, UsableMemoryBytes());
  if (bytes == 0) return {};
  std::vector<size_t> nodes;  // with workers, by WorkerPlace::node
  std::vector<int> os_nodes;
  for (const WorkerPlace& place : places) {
    if (static_cast<size_t>(place.node) < nodes.size()) continue;
    nodes.push_back(static_cast<size_t>(topology.NodeOfCpu(place.cpu)));
    const Topology::Node& node = topology.nodes[nodes.back()];
    os_nodes.push_back(node.memory_bytes > 0 && node.memory_allowed ? node.os_index : -1);
  }
  ThreadTeam team(places, pin);
  const std::vector<double> measured = MeasureLocalBandwidth(team, os_nodes, bytes);
  std::vector<double> bandwidth(topology.nodes.size(), 0.0);
  for (size_t i = 0; i < nodes.size(); ++i) bandwidth[nodes[i]] = measured[i];
  return bandwidth;
}

}  // namespace stoker
