#pragma once

// Which worker runs on which CPU: a pure function of the topology. Not the pinning itself
// (ThreadTeam) and not where bytes go (placement_plan.h).

#include <vector>

namespace stoker {

struct Topology;

struct WorkerPlace {
  int cpu = 0;   // OS index; -1: any, the worker floats
  int node = 0;  // index of its node among the nodes that got workers, ascending from 0
  friend bool operator==(const WorkerPlace&, const WorkerPlace&) = default;
};

// n_threads places (> 0) on allowed CPUs of `topology`, ordered by node, then L3 domain, then core.
// One worker per physical core first, as evenly as cores allow over nodes and then over L3 domains;
// second hardware threads only when every core has one. Throws std::runtime_error when n_threads
// exceeds the allowed CPUs.
std::vector<WorkerPlace> PlaceWorkers(const Topology& topology, int n_threads);

// min(physical cores with an allowed CPU, usable_cpus), at least 1. usable_cpus 0: no limit.
int DefaultThreads(const Topology& topology, int usable_cpus = 0);

}  // namespace stoker
