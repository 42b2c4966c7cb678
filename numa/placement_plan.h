#pragma once

// Where every byte of weights and state goes on a machine with several NUMA nodes, decided before
// anything is loaded. A pure function of plain values: no files, no allocation on nodes, nothing
// measured. Under `shard` every matrix is cut by output rows in proportion to the nodes' bandwidth,
// so that all nodes compute each product at once from local memory and exchange activations only;
// rows are contiguous in the file, so direct I/O can land each part on its node. Cutting by rows
// and not by experts keeps all nodes busy for the two experts of a token, whichever they are.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "numa/topology.h"

namespace stoker {

enum class NumaMode {
  kAuto,        // kShard where at least two nodes can hold rows, else kOff
  kShard,       // rows across nodes by bandwidth
  kInterleave,  // 2 MiB stripes over all nodes
  kNode,        // everything on one node
  kOff,         // no binding: first touch decides
};

struct NumaChoice {
  NumaMode mode = NumaMode::kAuto;
  int os_node = -1;       // of kNode
  int virtual_nodes = 0;  // of kShard: not 0 to divide the cores as if there were so many nodes
  // Of kShard: proportions of the nodes that compute, in their order; empty: by bandwidth.
  std::vector<double> shares = {};
};

// "auto", "shard", "shard:3,1" with the nodes' shares, "interleave", "node:K", "off"; and to try
// shard on a machine of fewer nodes "virtual:N", or "virtual:3,1" with shares. Throws
// std::runtime_error naming the text.
NumaChoice ParseNumaChoice(std::string_view text);

enum class TensorPlacement {
  kRows,         // cut by output rows (weights), or by heads (KV cache, lightning state)
  kReplicated,   // a copy on every node: norm gains
  kInterleaved,  // striped: the embedding, of which a token reads one row
  kFirst,        // on the first node that computes, which computes it alone: the router
};

// One matrix, or `count` matrices of one shape (the experts of all layers) that are cut alike.
struct PlannedTensor {
  std::string name;
  int64_t rows = 0;
  int64_t row_bytes = 0;
  int64_t row_grain = 1;  // cuts fall on multiples: panel rows of the kernel, head_dim of Q/K/V
  int64_t count = 1;
  TensorPlacement placement = TensorPlacement::kRows;
  double touched_per_token = 1.0;  // fraction of the bytes of all `count` that one token reads
  bool is_weight = true;           // false: sequence state
};

struct PlanInput {
  NumaChoice choice;
  std::vector<PlannedTensor> tensors;
  // Bytes per second that node i's workers read from node i, by index in Topology::nodes; empty:
  // not measured, allowed cores stand for it. Zero for nodes without CPUs or memory.
  std::vector<double> bandwidth;
  // What may be allocated per node; empty: Topology::Node::memory_bytes of the allowed nodes.
  std::vector<uint64_t> capacity_bytes;
  // Activations per token that every node needs and no node has whole: Q/K/V output, intermediate
  // between up and down, layer output, summed over the layers.
  uint64_t exchanged_bytes_per_token = 0;
};

// Rows [row_begin, row_end) of each of the tensor's matrices, on one node.
struct PlannedPart {
  int node = -1;  // index in Topology::nodes
  int64_t row_begin = 0;
  int64_t row_end = 0;
  friend bool operator==(const PlannedPart&, const PlannedPart&) = default;
};

struct PlacementPlan {
  struct NodeShare {
    int os_node = 0;
    double bandwidth_share = 0;  // of the sum; what `shard` aims at
    double row_share = 0;        // what capacity left of it
    uint64_t capacity_bytes = 0;
    uint64_t weight_bytes = 0;
    uint64_t state_bytes = 0;
    // Nodes (by index) whose workers compute the rows that lie here: itself; the nearest one with
    // CPUs where it has none; further ones that have CPUs but no memory.
    std::vector<int> computed_by;
  };
  struct TensorPlan {
    PlannedTensor tensor;
    // Ascending rows, each row once, for kRows under kShard and kNode; empty where striped,
    // replicated or unbound.
    std::vector<PlannedPart> parts;
    std::vector<uint64_t> bytes_per_node;  // of all `count`; sums to the tensor's bytes (times the
                                           // copies where replicated). All zero under kOff.
  };

  NumaMode mode = NumaMode::kOff;  // never kAuto
  std::vector<NodeShare> nodes;    // by index in Topology::nodes
  std::vector<TensorPlan> tensors;
  uint64_t touched_bytes_per_token = 0;
  // Of these plus the exchanged activations, what crosses between nodes. Under kOff the pages are
  // taken as spread by chance, as if striped.
  uint64_t cross_node_bytes_per_token = 0;

  // Throws std::runtime_error, with numbers, where a node does not exist, the bytes do not fit, or
  // the choice names shares of another number of nodes than compute.
  static PlacementPlan Make(const Topology& topology, const PlanInput& input);

  // A table for `inspect --placement`.
  std::string Format() const;
};

std::string_view NumaModeName(NumaMode mode);

}  // namespace stoker
