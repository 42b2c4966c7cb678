#include "numa/worker_placement.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>

#include "numa/topology.h"

namespace stoker {
namespace {

// Hands out n units one by one to the bin with the fewest that still has room: equal shares, except
// where a bin is full. The lower index wins a tie. n <= sum of room.
std::vector<int> SpreadEvenly(const std::vector<int>& room, int n) {
  std::vector<int> taken(room.size(), 0);
  for (; n > 0; --n) {
    size_t best = room.size();
    for (size_t i = 0; i < room.size(); ++i) {
      if (taken[i] < room[i] && (best == room.size() || taken[i] < taken[best])) best = i;
    }
    ++taken[best];
  }
  return taken;
}

struct Choice {
  int node, l3, core;
  size_t smt;  // which of the core's allowed hardware threads
};

// Picks n of the cores that still have an unused hardware thread at level `smt`.
void PickLevel(const Topology& topology, size_t smt, int n, std::vector<Choice>& out) {
  const auto has_room = [&](int core) {
    return topology.cores[static_cast<size_t>(core)].allowed_cpus.size() > smt;
  };
  std::vector<std::vector<int>> room(topology.nodes.size(),
                                     std::vector<int>(topology.l3_domains.size(), 0));
  std::vector<int> node_room(topology.nodes.size(), 0);
  for (size_t c = 0; c < topology.cores.size(); ++c) {
    if (!has_room(static_cast<int>(c))) continue;
    const Topology::Core& core = topology.cores[c];
    ++room[static_cast<size_t>(core.node)][static_cast<size_t>(core.l3)];
    ++node_room[static_cast<size_t>(core.node)];
  }
  const std::vector<int> per_node = SpreadEvenly(node_room, n);
  for (size_t node = 0; node < per_node.size(); ++node) {
    const std::vector<int> per_l3 = SpreadEvenly(room[node], per_node[node]);
    for (size_t l3 = 0; l3 < per_l3.size(); ++l3) {
      int left = per_l3[l3];
      for (const int core : topology.l3_domains[l3].cores) {
        if (left == 0) break;
        if (!has_room(core)) continue;
        out.push_back({static_cast<int>(node), static_cast<int>(l3), core, smt});
        --left;
      }
    }
  }
}

}  // namespace

std::vector<WorkerPlace> PlaceWorkers(const Topology& topology, int n_threads) {
  const int n_allowed = topology.n_allowed_cpus();
  if (n_threads < 1 || n_threads > n_allowed) {
    throw std::runtime_error(std::to_string(n_threads) +
                             " threads asked for, but the process may "
                             "use " +
                             std::to_string(n_allowed) + " CPUs; lower -t");
  }
  std::vector<Choice> choices;
  for (size_t smt = 0; static_cast<int>(choices.size()) < n_threads; ++smt) {
    int at_level = 0;
    for (const Topology::Core& core : topology.cores) at_level += core.allowed_cpus.size() > smt;
    PickLevel(topology, smt, std::min(at_level, n_threads - static_cast<int>(choices.size())),
              choices);
  }
  std::sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
    return std::tie(a.node, a.l3, a.core, a.smt) < std::tie(b.node, b.l3, b.core, b.smt);
  });

  std::vector<WorkerPlace> places;
  int node_index = -1;
  int last_node = -1;
  for (const Choice& choice : choices) {
    if (choice.node != last_node) ++node_index;
    last_node = choice.node;
    const Topology::Core& core = topology.cores[static_cast<size_t>(choice.core)];
    places.push_back({.cpu = core.allowed_cpus[choice.smt], .node = node_index});
  }
  return places;
}

int DefaultThreads(const Topology& topology, int usable_cpus) {
  const int cores = std::max(1, topology.n_allowed_cores());
  return usable_cpus > 0 ? std::min(cores, usable_cpus) : cores;
}

}  // namespace stoker
