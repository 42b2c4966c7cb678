#pragma once

// How work, and the bytes it reads, are cut among the workers of a team: first over the nodes in
// proportion to their shares, then within a node evenly over its workers, in worker order. A plain
// value, thread-safe. Loading, first touch, memory binding and compute all ask the same one: that
// is what puts a byte where it is read. A one-node machine is a partition of one node.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace stoker {

// Kernels take the rows of a matrix in panels of sixteen, which are never cut.
inline constexpr int64_t kRowGrain = 16;
// Of small matrices of floats, such as a router's: so that every worker gets some.
inline constexpr int64_t kSmallRowGrain = 4;
inline constexpr int64_t kSmallRows = 64;

// Which of `n_units` units end at a cut where shares of this sum lie before it: the one rounding
// that plans and execution share. cumulative in [0, 1].
int64_t CutAt(double cumulative, int64_t n_units);

// What the plan calls a stripe: the huge page.
inline constexpr uint64_t kStripeBytes = 2 * 1024 * 1024;

// [begin, end) of part `index` of `count` equal parts of [0, n) in units of `grain`: contiguous, in
// order, sizes differing by at most one grain.
std::pair<int64_t, int64_t> EvenShare(int index, int count, int64_t n, int64_t grain = 1);

class Partition {
 public:
  using Range = std::pair<int64_t, int64_t>;

  // A piece of a node's share and the memory it lies in. More than one where a node's workers also
  // read memory that has no workers of its own.
  struct Memory {
    int os_node = -1;  // -1: not bound, first touch decides
    double share = 1.0;
  };
  struct Node {
    int n_workers = 1;
    std::vector<Memory> memory = {Memory{}};
  };

  // One node, not bound.
  explicit Partition(int n_workers);
  // At least one node; every node has a worker, and the shares have a positive sum. `stripe_nodes`:
  // OS indices of the nodes that take turns at what is striped; empty: nothing is.
  explicit Partition(std::vector<Node> nodes, std::vector<int> stripe_nodes = {});

  int n_nodes() const { return static_cast<int>(nodes_.size()); }
  int n_workers() const { return first_worker_.back(); }
  int n_workers(int node) const { return FirstWorker(node + 1) - FirstWorker(node); }
  // First worker of a node; of n_nodes(): the number of workers.
  int FirstWorker(int node) const { return first_worker_[static_cast<size_t>(node)]; }
  int NodeOf(int worker) const;
  double share(int node) const;  // of all nodes, sums to 1
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<int>& stripe_nodes() const { return stripe_nodes_; }
  bool binds_rows() const;  // some node's memory is named
  // Everything is striped, rows too.
  bool is_interleaved() const { return !stripe_nodes_.empty() && !binds_rows(); }

  // A node's part of [0, n), cut at multiples of `unit`.
  Range OfNode(int node, int64_t n, int64_t unit = 1) const;
  // A worker's part of its node's part, in multiples of `grain` from where that begins.
  Range OfWorker(int worker, int64_t n, int64_t unit = 1, int64_t grain = 1) const;

  // The rows of a matrix that a worker computes and should be the first to touch: whole panels.
  // `unit`: rows that must stay on one node, such as a head's, a multiple of a panel; 1 for none.
  Range Rows(int worker, int64_t rows, int64_t unit = 1) const;
  // The same of a whole node.
  Range NodeRows(int node, int64_t rows, int64_t unit = 1) const;

  // Where rows lie: ascending, each row once, empty pieces left out.
  struct Piece {
    int64_t begin = 0;
    int64_t end = 0;
    int os_node = -1;
    friend bool operator==(const Piece&, const Piece&) = default;
  };
  std::vector<Piece> MemoryOfRows(int64_t rows, int64_t unit = 1) const;
  // The same of any n things, cut at multiples of `unit` as OfNode does.
  std::vector<Piece> MemoryOf(int64_t n, int64_t unit = 1) const;

 private:
  std::vector<Node> nodes_;
  std::vector<int> first_worker_;   // [n_nodes + 1]
  std::vector<double> cumulative_;  // [n_nodes + 1], from 0 to 1
  std::vector<int> stripe_nodes_;
};

}  // namespace stoker
