#pragma once

// The compute threads: one OpenMP parallel region with a fixed number of pinned workers, grouped by
// node, which any part of a forward pass enters through Run. Work is "rows [begin, end) on worker
// w": one Partition serves loading, first touch and compute. Owned by the Engine; Run is for the
// engine thread only and must not be nested. It is not a task scheduler.

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "numa/partition.h"
#include "numa/team_barrier.h"
#include "numa/worker_placement.h"

namespace stoker {

// One worker inside ThreadTeam::Run. Passed by reference down the call tree.
struct Worker {
  int index = 0;  // [0, count)
  int count = 1;
  int node = 0;  // in the partition; 0 on a one-node machine
  // The team's; null: one node of `count` workers.
  const Partition* partition = nullptr;
  TeamBarrier* node_barrier = nullptr;   // between the workers of this node
  TeamBarrier* cross_barrier = nullptr;  // between the nodes; null where there is one

  // Waits for all workers: of this node, then the last of them for the other nodes. Every worker
  // must call it the same number of times, and those of a node in the same order with
  // OnNode().Barrier().
  void Barrier() const;

  // This worker's part of [0, n): its node's by share, and of that an even part, in multiples of
  // `grain`; contiguous, in worker order. Begin == end when there is nothing to do.
  std::pair<int64_t, int64_t> Share(int64_t n, int64_t grain = 1) const;
  // This worker's rows of a matrix (Partition::Rows). Without a partition, fours of a small matrix,
  // unless `panels` says that they must stay whole.
  std::pair<int64_t, int64_t> Rows(int64_t rows, bool panels = false, int64_t unit = 1) const;

  // The part of [0, n) that belongs to this worker's node.
  std::pair<int64_t, int64_t> NodeShare(int64_t n) const;

  // The same worker among those of its node: Share and Barrier are the node's own. For work that
  // every node does for itself, and for the items of its part. Its index is that within the node.
  Worker OnNode() const;
};

// A function reference: valid only while Run runs, so no allocation per region.
class WorkerFn {
 public:
  template <typename F>
  WorkerFn(F& f)  // NOLINT(google-explicit-constructor)
      : object_(static_cast<void*>(&f)),
        call_([](void* object, const Worker& worker) { (*static_cast<F*>(object))(worker); }) {}
  void operator()(const Worker& worker) const { call_(object_, worker); }

 private:
  void* object_;
  void (*call_)(void*, const Worker&);
};

class ThreadTeam {
 public:
  // n_threads 0: one per physical core that the process may use (cgroup cpuset and CPU quota
  // honoured). Workers are pinned to distinct cores, spread over L3 domains, when `pin` is true and
  // the affinity call is permitted; otherwise they float, and `pinned()` says so.
  // Throws std::runtime_error when n_threads exceeds the CPUs the process may run on.
  explicit ThreadTeam(int n_threads, bool pin = true);
  // A team with a worker per place, for plans and tests that decide themselves: places may repeat
  // CPUs and name virtual nodes, ascending from 0, whose shares are as their workers. Throws
  // std::runtime_error when `pin` is set and a CPU is not the process's.
  explicit ThreadTeam(std::vector<WorkerPlace> places, bool pin = true);
  // The same, grouped and weighted by the partition, which has a worker for every place.
  ThreadTeam(std::vector<WorkerPlace> places, Partition partition, bool pin = true);
  // Gives the calling thread the affinity back that it had before it became worker 0.
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(cpus_.size()); }
  bool pinned() const { return pinned_.load(std::memory_order_relaxed); }
  const std::vector<int>& cpus() const { return cpus_; }  // OS index of each worker's CPU
  const Partition& partition() const { return partition_; }

  // How often the nodes have met at Barrier inside of Run; 0 for one node.
  uint32_t n_meetings() const { return cross_barrier_ ? cross_barrier_->n_meetings() : 0; }

  // Runs fn(worker) on every worker and returns when all have returned. fn must not throw.
  // Callable with a lambda lvalue or rvalue. The calling thread is worker 0 and stays pinned
  // between runs: a thread that it starts calls UnbindThisThread (affinity.h) first thing. Between
  // runs the other workers spin for some milliseconds and then sleep (libgomp's default).
  template <typename F>
  void Run(F&& fn) {
    F& reference = fn;
    RunImpl(WorkerFn(reference));
  }

 private:
  void RunImpl(WorkerFn fn);
  void RunWorker(int index, WorkerFn fn) noexcept;
  void EnterThread(int index) noexcept;

  uint64_t id_ = 0;  // unique in the process, so that threads know whose pin they carry
  std::vector<int> cpus_;
  Partition partition_;
  std::atomic<bool> pinned_{false};
  bool running_ = false;
  std::vector<std::unique_ptr<TeamBarrier>> node_barriers_;
  std::unique_ptr<TeamBarrier> cross_barrier_;  // null for one node
};

}  // namespace stoker
