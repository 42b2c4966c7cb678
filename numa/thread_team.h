#pragma once

// The compute threads: one OpenMP parallel region with a fixed number of pinned workers, which any
// part of a forward pass enters through Run. Work is "rows [begin, end) on worker w": the same
// partition serves first touch and compute. Owned by the Engine; Run is for the engine thread only
// and must not be nested. It is not a task scheduler.

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "numa/team_barrier.h"
#include "numa/worker_placement.h"

namespace stoker {

// One worker inside ThreadTeam::Run. Passed by reference down the call tree.
struct Worker {
  int index = 0;  // [0, count)
  int count = 1;
  int node = 0;                    // index of its NUMA node in the plan, 0 on a one-node machine
  TeamBarrier* barrier = nullptr;  // the team's; null is allowed for count 1 only

  // Waits for all workers of the team. Every worker must call it the same number of times.
  void Barrier() const;

  // This worker's share of [0, n) in units of `grain`: contiguous, in worker order, sizes differing
  // by at most one grain. Begin == end when there is nothing to do.
  std::pair<int64_t, int64_t> Share(int64_t n, int64_t grain = 1) const;
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
  // CPUs and name virtual nodes. Throws std::runtime_error when `pin` is set and a CPU is not the
  // process's.
  explicit ThreadTeam(std::vector<WorkerPlace> places, bool pin = true);
  // Gives the calling thread the affinity back that it had before it became worker 0.
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(cpus_.size()); }
  bool pinned() const { return pinned_.load(std::memory_order_relaxed); }
  const std::vector<int>& cpus() const { return cpus_; }    // OS index of each worker's CPU
  const std::vector<int>& nodes() const { return nodes_; }  // each worker's node in the plan

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
  void RunWorker(int index, WorkerFn fn, TeamBarrier* barrier) noexcept;
  void EnterThread(int index) noexcept;

  uint64_t id_ = 0;  // unique in the process, so that threads know whose pin they carry
  std::vector<int> cpus_;
  std::vector<int> nodes_;
  std::atomic<bool> pinned_{false};
  bool running_ = false;
  std::unique_ptr<TeamBarrier> barrier_;
};

}  // namespace stoker
