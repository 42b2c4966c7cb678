#include "numa/placement_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <stdexcept>

#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/partition.h"

namespace stoker {
namespace {

// The machine as the plan needs it, by index in Topology::nodes.
struct Machine {
  std::vector<uint64_t> capacity;
  std::vector<double> bandwidth;  // zero: the node gets rows only when the others are full
  std::vector<int> workers;       // allowed cores
  std::vector<std::vector<int>> computed_by;
  size_t size() const { return capacity.size(); }
  uint64_t total_capacity() const {
    return std::accumulate(capacity.begin(), capacity.end(), uint64_t{0});
  }
};

uint64_t MatrixBytes(const PlannedTensor& tensor) {
  return static_cast<uint64_t>(tensor.rows) * static_cast<uint64_t>(tensor.row_bytes);
}

uint64_t TensorBytes(const PlannedTensor& tensor) {
  return MatrixBytes(tensor) * static_cast<uint64_t>(tensor.count);
}

// The node nearest to `from` that `is_wanted`; -1 where none is.
template <typename Wanted>
int Nearest(const Topology& topology, size_t from, Wanted is_wanted) {
  int best = -1;
  for (size_t i = 0; i < topology.nodes.size(); ++i) {
    if (!is_wanted(i)) continue;
    const auto& row = topology.distances[from];
    if (best < 0 || row[i] < row[static_cast<size_t>(best)]) best = static_cast<int>(i);
  }
  return best;
}

Machine Describe(const Topology& topology, const PlanInput& input) {
  const size_t n = topology.nodes.size();
  STOKER_CHECK(input.bandwidth.empty() || input.bandwidth.size() == n);
  STOKER_CHECK(input.capacity_bytes.empty() || input.capacity_bytes.size() == n);
  Machine machine;
  machine.workers.assign(n, 0);
  for (const Topology::Core& core : topology.cores) {
    if (!core.allowed_cpus.empty()) ++machine.workers[static_cast<size_t>(core.node)];
  }
  for (size_t i = 0; i < n; ++i) {
    const Topology::Node& node = topology.nodes[i];
    const uint64_t wanted =
        input.capacity_bytes.empty() ? node.memory_bytes : input.capacity_bytes[i];
    machine.capacity.push_back(node.memory_allowed ? wanted : 0);
    const double measured =
        input.bandwidth.empty() ? static_cast<double>(machine.workers[i]) : input.bandwidth[i];
    const bool is_local = machine.workers[i] > 0 && machine.capacity[i] > 0;
    machine.bandwidth.push_back(is_local ? std::max(measured, 0.0) : 0.0);
  }
  machine.computed_by.resize(n);
  const auto has_memory = [&](size_t i) { return machine.capacity[i] > 0; };
  const auto has_workers = [&](size_t i) { return machine.workers[i] > 0; };
  for (size_t i = 0; i < n; ++i) {
    if (has_workers(i)) {
      // Workers without local memory help the nearest node that has some.
      const int home = has_memory(i) ? static_cast<int>(i) : Nearest(topology, i, has_memory);
      if (home >= 0) machine.computed_by[static_cast<size_t>(home)].push_back(static_cast<int>(i));
    }
  }
  for (size_t i = 0; i < n; ++i) {
    if (!has_memory(i) || !machine.computed_by[i].empty()) continue;
    const int helper = Nearest(topology, i, has_workers);
    if (helper >= 0) machine.computed_by[i].push_back(helper);
  }
  return machine;
}

// Of bytes that lie on `node`, the fraction that its computing workers read from elsewhere.
double RemoteFraction(const Machine& machine, size_t node) {
  int all = 0;
  int remote = 0;
  for (const int worker_node : machine.computed_by[node]) {
    all += machine.workers[static_cast<size_t>(worker_node)];
    if (worker_node != static_cast<int>(node)) {
      remote += machine.workers[static_cast<size_t>(worker_node)];
    }
  }
  return all > 0 ? static_cast<double>(remote) / all : 1.0;
}

// Shares of `bytes` by weight, no node above its room: a full node passes the rest on to the others
// by their weights, and when all that have weight are full, to those without by their room.
// Returns shares that sum to 1. The rooms together hold `bytes`.
std::vector<double> FillByWeight(const std::vector<double>& weights,
                                 const std::vector<double>& room, double bytes) {
  std::vector<double> taken(weights.size(), 0.0);
  std::vector<double> weight = weights;
  for (bool by_room = false; bytes > 0;) {
    const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
    if (sum <= 0) {
      if (by_room) break;
      by_room = true;
      for (size_t i = 0; i < room.size(); ++i) weight[i] = std::max(room[i] - taken[i], 0.0);
      continue;
    }
    double left = 0;
    for (size_t i = 0; i < weight.size(); ++i) {
      if (weight[i] <= 0) continue;
      const double wanted = taken[i] + bytes * weight[i] / sum;
      if (wanted >= room[i]) weight[i] = 0;
      const double granted = std::min(wanted, std::max(room[i], taken[i]));
      left += wanted - granted;
      taken[i] = granted;
    }
    // Rounding leaves dust that would go round for ever.
    if (left < 1.0) break;
    bytes = left;
  }
  const double total = std::accumulate(taken.begin(), taken.end(), 0.0);
  for (double& share : taken) share = total > 0 ? share / total : 0;
  return taken;
}

// Cuts at the multiples of the grain nearest to the cumulative shares, as Partition does. Every
// matrix of one shape is cut alike, because a cache slot takes any expert.
std::vector<PlannedPart> CutRows(const PlannedTensor& tensor, const std::vector<double>& shares) {
  std::vector<PlannedPart> parts;
  const int64_t grains = DivCeil(tensor.rows, tensor.row_grain);
  double cumulative = 0;
  int64_t begin = 0;
  int last_with_share = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    if (shares[i] > 0) last_with_share = static_cast<int>(i);
  }
  for (int i = 0; i <= last_with_share; ++i) {
    cumulative += shares[static_cast<size_t>(i)];
    const int64_t cut = i == last_with_share ? grains : CutAt(cumulative, grains);
    const int64_t end = std::min(cut * tensor.row_grain, tensor.rows);
    if (end > begin) parts.push_back({.node = i, .row_begin = begin, .row_end = end});
    begin = std::max(begin, end);
  }
  return parts;
}

// All rows on the first node with a share.
std::vector<PlannedPart> OnFirst(const PlannedTensor& tensor, const std::vector<double>& shares) {
  const auto first = std::find_if(shares.begin(), shares.end(), [](double s) { return s > 0; });
  const auto node = first != shares.end() ? static_cast<int>(first - shares.begin()) : 0;
  return {{.node = node, .row_begin = 0, .row_end = tensor.rows}};
}

// Stripes in turn over the nodes with capacity; the remainder goes to the first ones.
std::vector<uint64_t> Stripe(const Machine& machine, uint64_t bytes) {
  std::vector<uint64_t> result(machine.size(), 0);
  std::vector<size_t> used;
  for (size_t i = 0; i < machine.size(); ++i) {
    if (machine.capacity[i] > 0) used.push_back(i);
  }
  const uint64_t round = kStripeBytes * used.size();
  uint64_t rest = bytes % round;
  for (const size_t i : used) {
    const uint64_t extra = std::min(rest, kStripeBytes);
    result[i] = bytes / round * kStripeBytes + extra;
    rest -= extra;
  }
  return result;
}

[[noreturn]] void FailToFit(uint64_t bytes, uint64_t capacity, const std::string& where) {
  throw std::runtime_error("the plan puts " + FormatBytes(bytes) + " on " + where + ", which has " +
                           FormatBytes(capacity) + "; lower --memory or choose another --numa");
}

NumaMode Resolve(const Machine& machine, NumaMode mode) {
  if (mode != NumaMode::kAuto) return mode;
  const auto able = std::count_if(machine.bandwidth.begin(), machine.bandwidth.end(),
                                  [](double bandwidth) { return bandwidth > 0; });
  return able >= 2 ? NumaMode::kShard : NumaMode::kOff;
}

// The share of rows per node: all on one, or by bandwidth within the room that replicas, stripes
// and the rounding of the cuts leave.
std::vector<double> RowShares(const Topology& topology, const Machine& machine,
                              const PlanInput& input, NumaMode mode) {
  std::vector<double> shares(machine.size(), 0.0);
  if (mode == NumaMode::kNode) {
    for (size_t i = 0; i < machine.size(); ++i) {
      if (topology.nodes[i].os_index == input.choice.os_node) shares[i] = 1.0;
    }
    return shares;
  }
  double row_bytes = 0;
  std::vector<double> room(machine.capacity.begin(), machine.capacity.end());
  for (const PlannedTensor& tensor : input.tensors) {
    const auto bytes = static_cast<double>(TensorBytes(tensor));
    if (tensor.placement == TensorPlacement::kRows) row_bytes += bytes;
    const std::vector<uint64_t> stripes = Stripe(machine, TensorBytes(tensor));
    for (size_t i = 0; i < room.size(); ++i) {
      switch (tensor.placement) {
        case TensorPlacement::kRows:
          room[i] -= static_cast<double>(tensor.row_grain * tensor.row_bytes * tensor.count);
          break;
        case TensorPlacement::kReplicated:
        case TensorPlacement::kFirst:
          room[i] -= bytes;
          break;
        case TensorPlacement::kInterleaved:
          room[i] -= static_cast<double>(stripes[i]);
          break;
      }
    }
  }
  for (double& bytes : room) bytes = std::max(bytes, 0.0);
  return FillByWeight(machine.bandwidth, room, row_bytes);
}

// "3,1" -> {3, 1}; empty when malformed or a share is not above zero.
std::vector<double> ParseShares(std::string_view text) {
  std::vector<double> shares;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (true) {
    double share = 0;
    const auto parsed = std::from_chars(at, end, share);
    if (parsed.ec != std::errc{} || !(share > 0) || share > 1e15) return {};
    shares.push_back(share);
    if (parsed.ptr == end) return shares;
    if (*parsed.ptr != ',') return {};
    at = parsed.ptr + 1;
  }
}

// Shares of the choice instead of bandwidths, for the nodes that compute.
void TakeShares(const NumaChoice& choice, Machine& machine) {
  if (choice.shares.empty()) return;
  size_t next = 0;
  for (double& bandwidth : machine.bandwidth) {
    if (bandwidth <= 0) continue;
    if (next < choice.shares.size()) bandwidth = choice.shares[next];
    ++next;
  }
  if (next != choice.shares.size()) {
    throw std::runtime_error("--numa names shares of " + std::to_string(choice.shares.size()) +
                             " nodes, but " + std::to_string(next) +
                             " have cores and memory for this process");
  }
}

}  // namespace

NumaChoice ParseNumaChoice(std::string_view text) {
  for (const NumaMode mode :
       {NumaMode::kAuto, NumaMode::kShard, NumaMode::kInterleave, NumaMode::kOff}) {
    if (text == NumaModeName(mode)) return {.mode = mode};
  }
  const auto number_after = [text](std::string_view prefix) {
    int number = -1;
    if (!text.starts_with(prefix)) return -1;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + prefix.size(), end, number);
    return parsed.ec == std::errc{} && parsed.ptr == end ? number : -1;
  };
  if (const int node = number_after("node:"); node >= 0) {
    return {.mode = NumaMode::kNode, .os_node = node};
  }
  if (const int n = number_after("virtual:"); n >= 1) {
    return {.mode = NumaMode::kShard, .virtual_nodes = n};
  }
  for (const std::string_view prefix : {"shard:", "virtual:"}) {
    if (!text.starts_with(prefix)) continue;
    NumaChoice choice{.mode = NumaMode::kShard, .shares = ParseShares(text.substr(prefix.size()))};
    if (choice.shares.empty()) break;
    if (prefix == "virtual:") choice.virtual_nodes = static_cast<int>(choice.shares.size());
    return choice;
  }
  throw std::runtime_error("--numa '" + std::string(text) +
                           "': use auto, shard, shard:A,B,..., interleave, node:K or off");
}

std::string_view NumaModeName(NumaMode mode) {
  switch (mode) {
    case NumaMode::kAuto:
      return "auto";
    case NumaMode::kShard:
      return "shard";
    case NumaMode::kInterleave:
      return "interleave";
    case NumaMode::kNode:
      return "node";
    case NumaMode::kOff:
      return "off";
  }
  return "unknown";
}

PlacementPlan PlacementPlan::Make(const Topology& topology, const PlanInput& input) {
  Machine machine = Describe(topology, input);
  TakeShares(input.choice, machine);
  if (machine.total_capacity() == 0) throw std::runtime_error("no NUMA node has usable memory");
  PlacementPlan plan;
  plan.mode = Resolve(machine, input.choice.mode);
  if (plan.mode == NumaMode::kNode &&
      std::none_of(topology.nodes.begin(), topology.nodes.end(), [&](const Topology::Node& node) {
        return node.os_index == input.choice.os_node;
      })) {
    throw std::runtime_error("--numa node:" + std::to_string(input.choice.os_node) +
                             ": no such node here");
  }

  // 1. What each node is worth.
  const bool has_rows = plan.mode == NumaMode::kShard || plan.mode == NumaMode::kNode;
  const std::vector<double> shares = has_rows ? RowShares(topology, machine, input, plan.mode)
                                              : std::vector<double>(machine.size(), 0.0);
  const double bandwidth = std::accumulate(machine.bandwidth.begin(), machine.bandwidth.end(), 0.0);
  for (size_t i = 0; i < machine.size(); ++i) {
    plan.nodes.push_back({.os_node = topology.nodes[i].os_index,
                          .bandwidth_share = bandwidth > 0 ? machine.bandwidth[i] / bandwidth : 0,
                          .row_share = shares[i],
                          .capacity_bytes = machine.capacity[i],
                          .computed_by = machine.computed_by[i]});
  }

  // 2. Every tensor.
  const auto n_shares =
      std::count_if(shares.begin(), shares.end(), [](double share) { return share > 0; });
  double touched = 0;
  double crossing = 0;
  for (const PlannedTensor& tensor : input.tensors) {
    STOKER_CHECK(tensor.rows >= 0 && tensor.row_bytes >= 0 && tensor.row_grain > 0);
    TensorPlan tensor_plan{.tensor = tensor, .parts = {}, .bytes_per_node = {}};
    const double touched_here = static_cast<double>(TensorBytes(tensor)) * tensor.touched_per_token;
    touched += touched_here;
    std::vector<uint64_t>& on_node = tensor_plan.bytes_per_node;
    on_node.assign(machine.size(), 0);
    const bool is_replicated = tensor.placement == TensorPlacement::kReplicated;
    if (has_rows && is_replicated) {
      for (size_t i = 0; i < shares.size(); ++i) {
        if (shares[i] > 0) on_node[i] = TensorBytes(tensor);
      }
    } else if (plan.mode == NumaMode::kNode ||
               (has_rows && tensor.placement != TensorPlacement::kInterleaved)) {
      tensor_plan.parts = tensor.placement == TensorPlacement::kFirst ? OnFirst(tensor, shares)
                                                                      : CutRows(tensor, shares);
      for (const PlannedPart& part : tensor_plan.parts) {
        const auto node = static_cast<size_t>(part.node);
        on_node[node] = static_cast<uint64_t>((part.row_end - part.row_begin) * tensor.row_bytes *
                                              tensor.count);
        const double fraction =
            static_cast<double>(part.row_end - part.row_begin) / static_cast<double>(tensor.rows);
        crossing += touched_here * fraction * RemoteFraction(machine, node);
      }
    } else {
      const std::vector<uint64_t> stripes = Stripe(machine, TensorBytes(tensor));
      if (plan.mode != NumaMode::kOff) on_node = stripes;
      const auto n_used = std::count_if(machine.capacity.begin(), machine.capacity.end(),
                                        [](uint64_t capacity) { return capacity > 0; });
      crossing += touched_here * static_cast<double>(n_used - 1) / static_cast<double>(n_used);
    }
    for (size_t i = 0; i < machine.size(); ++i) {
      (tensor.is_weight ? plan.nodes[i].weight_bytes : plan.nodes[i].state_bytes) += on_node[i];
    }
    plan.tensors.push_back(std::move(tensor_plan));
  }

  // 3. Each node that computes a part reads from the others what it did not compute itself; summed
  // over the nodes that is the activations times one less than the nodes.
  if (n_shares > 1) {
    crossing +=
        static_cast<double>(input.exchanged_bytes_per_token) * static_cast<double>(n_shares - 1);
  }
  plan.touched_bytes_per_token = static_cast<uint64_t>(touched);
  plan.cross_node_bytes_per_token = static_cast<uint64_t>(crossing);

  // 4. Does it fit?
  uint64_t all_bytes = 0;
  for (const PlannedTensor& tensor : input.tensors) all_bytes += TensorBytes(tensor);
  if (all_bytes > machine.total_capacity()) {
    FailToFit(all_bytes, machine.total_capacity(), "all nodes");
  }
  for (const NodeShare& node : plan.nodes) {
    const uint64_t bytes = node.weight_bytes + node.state_bytes;
    if (bytes > node.capacity_bytes) {
      FailToFit(bytes, node.capacity_bytes, "node " + std::to_string(node.os_node));
    }
  }
  return plan;
}

std::string PlacementPlan::Format() const {
  char line[256];
  std::string text = "numa: " + std::string(NumaModeName(mode)) + "\n";
  for (const NodeShare& node : nodes) {
    std::snprintf(line, sizeof(line),
                  "  node %-3d bandwidth %5.1f %%  rows %5.1f %%  weights %9s  state %9s  of %9s\n",
                  node.os_node, 100 * node.bandwidth_share, 100 * node.row_share,
                  FormatBytes(node.weight_bytes).c_str(), FormatBytes(node.state_bytes).c_str(),
                  FormatBytes(node.capacity_bytes).c_str());
    text += line;
  }
  for (const TensorPlan& plan : tensors) {
    std::snprintf(line, sizeof(line), "  %-32s %6lld x %9s  ", plan.tensor.name.c_str(),
                  static_cast<long long>(plan.tensor.count),
                  FormatBytes(MatrixBytes(plan.tensor)).c_str());
    text += line;
    if (mode == NumaMode::kOff) {
      text += "first touch";
    } else if (!plan.parts.empty()) {
      for (const PlannedPart& part : plan.parts) {
        std::snprintf(line, sizeof(line), "[%lld, %lld) @%d ",
                      static_cast<long long>(part.row_begin), static_cast<long long>(part.row_end),
                      nodes[static_cast<size_t>(part.node)].os_node);
        text += line;
      }
      text.pop_back();
    } else {
      const bool is_copied =
          mode != NumaMode::kInterleave && plan.tensor.placement == TensorPlacement::kReplicated;
      text += is_copied ? "a copy on each node" : "2 MiB stripes";
    }
    text += "\n";
  }
  const double fraction = touched_bytes_per_token > 0
                              ? static_cast<double>(cross_node_bytes_per_token) /
                                    static_cast<double>(touched_bytes_per_token)
                              : 0.0;
  std::snprintf(line, sizeof(line), "per token: %s touched, %s (%.1f %%) across nodes\n",
                FormatBytes(touched_bytes_per_token).c_str(),
                FormatBytes(cross_node_bytes_per_token).c_str(), 100 * fraction);
  return text + line;
}

}  // namespace stoker
