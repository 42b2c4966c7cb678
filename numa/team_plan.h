#pragma once

// From the choice of --numa to a team: which CPUs get workers, and, once the placement plan says
// what each node holds, which workers share it. Pure functions of plain values; joins
// worker_placement.h and placement_plan.h.

#include <vector>

#include "numa/partition.h"
#include "numa/placement_plan.h"
#include "numa/topology.h"
#include "numa/worker_placement.h"

namespace stoker {

// The machine that the choice leaves: CPUs of one node only (of the nearest with CPUs, where it has
// none) for node:K, cores divided over virtual nodes for virtual:N. Throws std::runtime_error where
// there is no such node, or a virtual node would have no core.
Topology ChosenTopology(const Topology& topology, const NumaChoice& choice);

// `topology` with only those CPUs allowed that have a worker: what a plan for these workers must
// see, because fewer threads than cores change the shares.
Topology OnlyPlaced(const Topology& topology, const std::vector<WorkerPlace>& places);

// Nodes with workers: an upper bound of the partition's nodes.
int CountNodes(const std::vector<WorkerPlace>& places);

struct TeamPlan {
  std::vector<WorkerPlace> places;  // `node` is that of the partition
  Partition partition;
};

// Groups the workers as the plan has them compute: one node of the partition per node that holds
// rows and has workers, its own and those of nodes without memory; memory without workers goes to
// the workers that compute it. One node where the plan does not bind rows. `places` are those of
// the topology the plan was made for.
TeamPlan MakeTeamPlan(const Topology& topology, const PlacementPlan& plan,
                      std::vector<WorkerPlace> places);

}  // namespace stoker
