#include "numa/team_plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "numa/check.h"

namespace stoker {
namespace {

bool HasAllowedCpus(const Topology& topology, size_t node) {
  return std::any_of(topology.cores.begin(), topology.cores.end(), [&](const Topology::Core& core) {
    return core.node == static_cast<int>(node) && !core.allowed_cpus.empty();
  });
}

// The cores, in the order they have, dealt out to n nodes with an equal part of the memory each.
Topology Divide(const Topology& topology, int n) {
  std::vector<int> usable;
  for (size_t c = 0; c < topology.cores.size(); ++c) {
    if (!topology.cores[c].allowed_cpus.empty()) usable.push_back(static_cast<int>(c));
  }
  if (static_cast<int>(usable.size()) < n) {
    throw std::runtime_error("--numa virtual:" + std::to_string(n) + ": there are only " +
                             std::to_string(usable.size()) + " cores");
  }
  Topology result = topology;
  result.nodes.clear();
  result.l3_domains.clear();
  result.distances.assign(static_cast<size_t>(n),
                          std::vector<uint32_t>(static_cast<size_t>(n), 10));
  for (Topology::Core& core : result.cores) core.allowed_cpus.clear();
  for (int i = 0; i < n; ++i) {
    const auto [begin, end] = EvenShare(i, n, static_cast<int64_t>(usable.size()));
    const Topology::Core& first = topology.cores[static_cast<size_t>(usable[begin])];
    const Topology::Node& home = topology.nodes[static_cast<size_t>(first.node)];
    uint64_t memory_bytes = 0;
    for (const Topology::Node& node : topology.nodes) {
      if (node.memory_allowed) memory_bytes += node.memory_bytes / static_cast<uint64_t>(n);
    }
    Topology::Node node{.os_index = home.os_index, .memory_bytes = memory_bytes, .cores = {}};
    Topology::L3Domain domain{.package = first.package, .node = i, .cores = {}};
    for (int64_t u = begin; u < end; ++u) {
      const int index = usable[static_cast<size_t>(u)];
      Topology::Core& core = result.cores[static_cast<size_t>(index)];
      core.node = i;
      core.l3 = i;
      core.allowed_cpus = topology.cores[static_cast<size_t>(index)].allowed_cpus;
      node.cores.push_back(index);
      domain.cores.push_back(index);
    }
    result.nodes.push_back(std::move(node));
    result.l3_domains.push_back(std::move(domain));
  }
  return result;
}

// Which node's rows the workers of node w compute: its own, or those of the node it helps.
int HomeOf(const PlacementPlan& plan, int w) {
  const auto computes = [&](size_t i) {
    const std::vector<int>& by = plan.nodes[i].computed_by;
    return std::find(by.begin(), by.end(), w) != by.end();
  };
  if (computes(static_cast<size_t>(w))) return w;
  for (size_t i = 0; i < plan.nodes.size(); ++i) {
    if (plan.nodes[i].row_share > 0 && computes(i)) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace

Topology ChosenTopology(const Topology& topology, const NumaChoice& choice) {
  if (choice.virtual_nodes > 0) return Divide(topology, choice.virtual_nodes);
  if (choice.mode != NumaMode::kNode) return topology;
  size_t node = 0;
  while (node < topology.nodes.size() && topology.nodes[node].os_index != choice.os_node) ++node;
  if (node == topology.nodes.size()) {
    throw std::runtime_error("--numa node:" + std::to_string(choice.os_node) +
                             ": no such node here");
  }
  if (!HasAllowedCpus(topology, node)) {
    size_t nearest = topology.nodes.size();
    for (size_t i = 0; i < topology.nodes.size(); ++i) {
      if (!HasAllowedCpus(topology, i)) continue;
      if (nearest == topology.nodes.size() ||
          topology.distances[i][node] < topology.distances[nearest][node]) {
        nearest = i;
      }
    }
    node = nearest;
  }
  Topology result = topology;
  for (Topology::Core& core : result.cores) {
    if (core.node != static_cast<int>(node)) core.allowed_cpus.clear();
  }
  return result;
}

Topology OnlyPlaced(const Topology& topology, const std::vector<WorkerPlace>& places) {
  Topology result = topology;
  for (Topology::Core& core : result.cores) {
    std::erase_if(core.allowed_cpus, [&](int cpu) {
      return std::none_of(places.begin(), places.end(),
                          [cpu](const WorkerPlace& place) { return place.cpu == cpu; });
    });
  }
  return result;
}

int CountNodes(const std::vector<WorkerPlace>& places) {
  int n = 0;
  for (const WorkerPlace& place : places) n = std::max(n, place.node + 1);
  return n;
}

TeamPlan MakeTeamPlan(const Topology& topology, const PlacementPlan& plan,
                      std::vector<WorkerPlace> places) {
  STOKER_CHECK(!places.empty());
  const bool binds = topology.is_this_system;  // described nodes do not exist
  std::vector<int> stripe_nodes;
  if (binds && (plan.mode == NumaMode::kShard || plan.mode == NumaMode::kInterleave)) {
    for (const PlacementPlan::NodeShare& node : plan.nodes) {
      if (node.capacity_bytes > 0) stripe_nodes.push_back(node.os_node);
    }
  }
  const auto one_node = [&](int os_node) {
    for (WorkerPlace& place : places) {
      place.node = 0;
      if (!binds) place.cpu = -1;
    }
    const auto n = static_cast<int>(places.size());
    return TeamPlan{places,
                    Partition({{.n_workers = n, .memory = {{.os_node = os_node}}}}, stripe_nodes)};
  };
  if (plan.mode == NumaMode::kNode) {
    const auto node = std::find_if(plan.nodes.begin(), plan.nodes.end(),
                                   [](const auto& share) { return share.row_share > 0; });
    STOKER_CHECK(node != plan.nodes.end());
    return one_node(binds ? node->os_node : -1);
  }
  if (plan.mode != NumaMode::kShard) return one_node(-1);

  // 1. Workers by the node whose rows they compute.
  std::vector<int> home(plan.nodes.size(), -1);
  for (WorkerPlace& place : places) {
    const int node = topology.NodeOfCpu(place.cpu);
    STOKER_CHECK(node >= 0);
    place.node = HomeOf(plan, node);
    STOKER_CHECK(place.node >= 0);
    home[static_cast<size_t>(node)] = place.node;
  }
  std::stable_sort(places.begin(), places.end(),
                   [](const WorkerPlace& a, const WorkerPlace& b) { return a.node < b.node; });
  // 2. Nodes of the partition in ascending order of their homes.
  std::vector<Partition::Node> nodes;
  std::vector<int> index(plan.nodes.size(), -1);  // in `nodes`, by home
  for (WorkerPlace& place : places) {
    const auto at = static_cast<size_t>(place.node);
    if (index[at] < 0) {
      index[at] = static_cast<int>(nodes.size());
      nodes.push_back({.n_workers = 0,
                       .memory = {{.os_node = binds ? plan.nodes[at].os_node : -1,
                                   .share = plan.nodes[at].row_share}}});
    }
    place.node = index[at];
    ++nodes[static_cast<size_t>(place.node)].n_workers;
  }
  // 3. Memory without workers, to those that compute it.
  for (size_t i = 0; i < plan.nodes.size(); ++i) {
    const PlacementPlan::NodeShare& share = plan.nodes[i];
    if (share.row_share <= 0 || index[i] >= 0) continue;
    STOKER_CHECK(!share.computed_by.empty());
    const int to = home[static_cast<size_t>(share.computed_by.front())];
    STOKER_CHECK(to >= 0);
    nodes[static_cast<size_t>(index[static_cast<size_t>(to)])].memory.push_back(
        {.os_node = binds ? share.os_node : -1, .share = share.row_share});
  }
  if (!binds) {
    for (WorkerPlace& place : places) place.cpu = -1;
  }
  return {std::move(places), Partition(std::move(nodes), std::move(stripe_nodes))};
}

}  // namespace stoker
