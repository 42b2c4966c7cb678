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
};
thread_local ThreadPin thread_pin;

std::vector<WorkerPlace> ChoosePlaces(int n_threads) {
  const Topology topology = Topology::Detect();
  if (n_threads == 0) n_threads = DefaultThreads(topology, UsableCpus());
  std::vector<WorkerPlace> places = PlaceWorkers(topology, n_threads);
  // A described machine (HWLOC_SYNTHETIC) gives the nodes; its CPUs do not exist here.
  if (!topology.is_this_system) {
    for (WorkerPlace& place : places) place.cpu = -1;
  }
  return places;
}

uint64_t NextTeamId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void Worker::Barrier() const {
  if (count == 1) return;
  STOKER_CHECK(barrier != nullptr);
  barrier->Wait();
}

std::pair<int64_t, int64_t> Worker::Share(int64_t n, int64_t grain) const {
  STOKER_CHECK(n >= 0 && grain > 0);
  const int64_t grains = DivCeil(n, grain);
  const int64_t each = grains / count;
  const int64_t larger = grains % count;  // the first `larger` workers take one grain more
  const int64_t begin = each * index + std::min<int64_t>(index, larger);
  const int64_t end = begin + each + (index < larger ? 1 : 0);
  return {std::min(begin * grain, n), std::min(end * grain, n)};
}

ThreadTeam::ThreadTeam(int n_threads, bool pin) : ThreadTeam(ChoosePlaces(n_threads), pin) {}

ThreadTeam::ThreadTeam(std::vector<WorkerPlace> places, bool pin) : id_(NextTeamId()) {
  STOKER_CHECK(!places.empty());
  const std::vector<int>& allowed = ProcessCpus();
  for (const WorkerPlace& place : places) {
    if (place.cpu < 0) pin = false;
    if (pin && !std::binary_search(allowed.begin(), allowed.end(), place.cpu)) {
      throw std::runtime_error("CPU " + std::to_string(place.cpu) +
                               " is not one this process may run on");
    }
    cpus_.push_back(place.cpu);
    nodes_.push_back(place.node);
  }
  if (size() > omp_get_thread_limit()) {
    throw std::runtime_error(std::to_string(size()) + " threads exceed OMP_THREAD_LIMIT=" +
                             std::to_string(omp_get_thread_limit()) + "; raise or unset it");
  }
  // Asking for what the thread already has shows whether the call is permitted at all.
  pinned_ = pin && BindThisThread(ThisThreadCpus());
  barrier_ = std::make_unique<TeamBarrier>(size());
}

ThreadTeam::~ThreadTeam() {
  STOKER_CHECK(!running_);
  if (thread_pin.team_id != id_) return;
  if (!thread_pin.previous_cpus.empty()) BindThisThread(thread_pin.previous_cpus);
  thread_pin = ThreadPin{};
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

void ThreadTeam::RunWorker(int index, WorkerFn fn, TeamBarrier* barrier) noexcept {
  NoteAcquire(barrier);
  EnterThread(index);
  fn(Worker{.index = index,
            .count = size(),
            .node = nodes_[static_cast<size_t>(index)],
            .barrier = barrier});
  NoteRelease(barrier);
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
  TeamBarrier* const barrier = barrier_.get();
  NoteRelease(barrier);
#pragma omp parallel num_threads(count)
  {
    // Fewer threads than asked for would wait at the first barrier for ever.
    STOKER_CHECK_MSG(omp_get_num_threads() == count, "OpenMP granted fewer threads than asked for");
    RunWorker(omp_get_thread_num(), fn, barrier);
  }
  NoteAcquire(barrier);
  running_ = false;
}

}  // namespace stoker
