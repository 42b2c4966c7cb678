#pragma once

// What a model puts into memory, as the placement plan wants it: its matrices by kind, its experts
// or the cache's slots, and the state of one sequence. Reads headers only, so that `inspect
// --placement` can say where everything goes before anything is loaded.

#include <cstdint>
#include <vector>

#include "mmap/weight_store.h"
#include "numa/placement_plan.h"
#include "numa/topology.h"
#include "numa/worker_placement.h"
#include "runtime/sequence_state.h"

namespace stoker {

// What the plan depends on beside the model.
struct PlacementShape {
  int64_t n_ctx = 8192;
  KvTypes kv;
  uint32_t n_slots = 0;  // of the expert cache; 0: every expert has its place
};

// Without the choice of --numa, bandwidths and capacities.
PlanInput MakePlanInput(const WeightStore& store, const PlacementShape& shape);

// Bandwidths of the nodes that could share the weights, by index in the topology, measured by these
// workers in half a second; empty where the choice leaves nothing to share by them. Engine thread
// only.
std::vector<double> MeasureNodes(const Topology& topology, const std::vector<WorkerPlace>& places,
                                 const NumaChoice& choice, bool pin);

}  // namespace stoker
