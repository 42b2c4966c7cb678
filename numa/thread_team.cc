#include "numa/thread_team.h"

#include <omp.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "numa/affinity.h"
#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/memory_limits.h"
#include "numa/topology.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace stoker {
namespace {

// ThreadSanitizer cannot see the synchronisation inside libgomp, which is not instrumented. These
// tell it what a parallel region guarantees: the engine thread's writes before the region are
// visible inside, the workers' writes inside are visible after.
#if defined(__SANITIZE_THREAD__)
#define STOKER_NO_TSAN __attribute__((no_sanitize("thread")))
void NoteRelease(void* region) { __tsan_release(region); }
void NoteAcquire(void* region) { __tsan_acquire(region); }
#else
#define STOKER_NO_TSAN
void NoteRelease(void*) {}
void NoteAcquire(void*) {}
#endif

// What the pin of the current thread is. libgomp ends and recreates its threads when regions of
// other sizes run in between, so every entry compares; that costs one thread-local load.
struct ThreadPin {
  uint64_t team_id = 0;
  int index = -1;
  std::vector<int> previous_cpus;  // of the thread that became worker 0

  ~ThreadPin();
};
thread_local ThreadPin thread_pin;
// Outlives it: a team in static storage ends after its thread's own variables.
thread_local bool thread_pin_gone = false;
ThreadPin::~ThreadPin() { thread_pin_gone = true; }

std::vector<WorkerPlace> ChoosePlaces(int n_threads) {
  const Topology topology = Topology::Detect();
  if (n_threads == 0) n_threads = DefaultThreads(topology, UsableCpus());
  std::vector<WorkerPlace> places = PlaceWorkers(topology, n_threads);
  for (WorkerPlace& place : places) {
    place.node = 0;
    // A described machine (HWLOC_SYNTHETIC) has CPUs that do not exist here.
    if (!topology.is_this_system) place.cpu = -1;
  }
  return places;
}

// Nodes as the places name them, with shares as their workers.
Partition PartitionOf(const std::vector<WorkerPlace>& places) {
  std::vector<Partition::Node> nodes;
  int last = -1;
  for (const WorkerPlace& place : places) {
    STOKER_CHECK_MSG(place.node == last || place.node == last + 1, "places ordered by node");
    if (place.node != last) nodes.push_back({.n_workers = 0, .memory = {{.share = 0}}});
    last = place.node;
    ++nodes.back().n_workers;
    nodes.back().memory.front().share += 1;
  }
  return Partition(std::move(nodes));
}

uint64_t NextTeamId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void Worker::Barrier() const {
  if (node_barrier == nullptr) {
    STOKER_CHECK(count == 1);
  } else if (cross_barrier != nullptr) {
    node_barrier->WaitWithin(*cross_barrier);
  } else {
    node_barrier->Wait();
  }
}

std::pair<int64_t, int64_t> Worker::Share(int64_t n, int64_t grain) const {
  return partition != nullptr ? partition->OfWorker(index, n, grain, grain)
                              : EvenShare(index, count, n, grain);
}

std::pair<int64_t, int64_t> Worker::Rows(int64_t rows, bool panels, int64_t unit) const {
  if (partition != nullptr) return partition->Rows(index, rows, unit);
  const bool is_small = !panels && rows < kSmallRows;
  return EvenShare(index, count, rows, is_small ? kSmallRowGrain : kRowGrain);
}

std::pair<int64_t, int64_t> Worker::NodeShare(int64_t n) const {
  return partition != nullptr ? partition->OfNode(node, n) : Partition::Range{0, n};
}

Worker Worker::OnNode() const {
  Worker result = *this;
  result.partition = nullptr;
  result.cross_barrier = nullptr;
  if (partition != nullptr) {
    result.index = index - partition->FirstWorker(node);
    result.count = partition->n_workers(node);
  }
  return result;
}

ThreadTeam::ThreadTeam(int n_threads, bool pin) : ThreadTeam(ChoosePlaces(n_threads), pin) {}

ThreadTeam::ThreadTeam(std::vector<WorkerPlace> places, bool pin)
    : ThreadTeam(places, PartitionOf(places), pin) {}

ThreadTeam::ThreadTeam(std::vector<WorkerPlace> places, Partition partition, bool pin)
    : id_(NextTeamId()), partition_(std::move(partition)) {
  STOKER_CHECK(!places.empty() && static_cast<int>(places.size()) == partition_.n_workers());
  const std::vector<int>& allowed = ProcessCpus();
  for (const WorkerPlace& place : places) {
    if (place.cpu < 0) pin = false;
    if (pin && !std::binary_search(allowed.begin(), allowed.end(), place.cpu)) {
      throw std::runtime_error("CPU " + std::to_string(place.cpu) +
                               " is not one this process may run on");
    }
    cpus_.push_back(place.cpu);
  }
  if (size() > omp_get_thread_limit()) {
    throw std::runtime_error(std::to_string(size()) + " threads exceed OMP_THREAD_LIMIT=" +
                             std::to_string(omp_get_thread_limit()) + "; raise or unset it");
  }
  // Asking for what the thread already has shows whether the call is permitted at all.
  pinned_ = pin && BindThisThread(ThisThreadCpus());
  for (int node = 0; node < partition_.n_nodes(); ++node) {
    node_barriers_.push_back(std::make_unique<TeamBarrier>(partition_.n_workers(node)));
  }
  if (partition_.n_nodes() > 1) {
    cross_barrier_ = std::make_unique<TeamBarrier>(partition_.n_nodes());
  }
}

ThreadTeam::~ThreadTeam() {
  STOKER_CHECK(!running_);
  if (thread_pin_gone || thread_pin.team_id != id_) return;
  if (!thread_pin.previous_cpus.empty()) BindThisThread(thread_pin.previous_cpus);
  thread_pin.team_id = 0;
  thread_pin.index = -1;
  thread_pin.previous_cpus.clear();
}

void ThreadTeam::EnterThread(int index) noexcept {
  if (thread_pin.team_id == id_ && thread_pin.index == index) return;
  if (pinned()) {
    // The engine thread may carry the pin of another team: the mask to give back is the oldest.
    if (index == 0 && thread_pin.previous_cpus.empty()) {
      thread_pin.previous_cpus = ThisThreadCpus();
    }
    if (!BindThisThread({&cpus_[static_cast<size_t>(index)], 1})) {
      pinned_.store(false, std::memory_order_relaxed);
    }
  } else if (index > 0 || thread_pin.team_id != 0) {
    UnbindThisThread();  // Inherited from, or left by, a pinned team.
  }
  thread_pin.team_id = id_;
  thread_pin.index = index;
}

void ThreadTeam::RunWorker(int index, WorkerFn fn) noexcept {
  NoteAcquire(this);
  EnterThread(index);
  const int node = partition_.NodeOf(index);
  fn(Worker{.index = index,
            .count = size(),
            .node = node,
            .partition = &partition_,
            .node_barrier = node_barriers_[static_cast<size_t>(node)].get(),
            .cross_barrier = cross_barrier_.get()});
  NoteRelease(this);
}

STOKER_NO_TSAN void ThreadTeam::RunImpl(WorkerFn fn) {
  STOKER_CHECK_MSG(!running_ && omp_in_parallel() == 0, "ThreadTeam::Run is not re-entrant");
  running_ = true;
  const int count = size();
  if (thread_pin.team_id != id_ || thread_pin.index != 0) {
    // Per-thread settings of OpenMP. They also size the regions that libraries (oneDNN) open on
    // the engine thread, which then run on these very workers.
    omp_set_dynamic(0);
    omp_set_num_threads(count);
  }
  NoteRelease(this);
#pragma omp parallel num_threads(count)
  {
    // Fewer threads than asked for would wait at the first barrier for ever.
    STOKER_CHECK_MSG(omp_get_num_threads() == count, "OpenMP granted fewer threads than asked for");
    RunWorker(omp_get_thread_num(), fn);
  }
  NoteAcquire(this);
  running_ = false;
}

}  // namespace stoker
