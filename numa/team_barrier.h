#pragma once

// The barrier between the workers of one node, or between the nodes of one ThreadTeam: spins for
// about a millisecond, then sleeps in the kernel. Two levels, so that only one worker of each node
// touches a cache line that another node writes. Owned by the team, used through Worker::Barrier;
// thread-safe. It exists beside
// `#pragma omp barrier` because libgomp makes a futex call in every barrier even when nobody
// sleeps (1.4 us against 0.45 us with two workers here), and because it can be called from any
// depth and is understood by ThreadSanitizer.

#include <atomic>
#include <cstdint>

namespace stoker {

class TeamBarrier {
 public:
  explicit TeamBarrier(int count) : count_(static_cast<uint32_t>(count)) {}
  TeamBarrier(const TeamBarrier&) = delete;
  TeamBarrier& operator=(const TeamBarrier&) = delete;

  // Returns when `count` threads have called it. What each wrote before is visible to all after.
  void Wait() noexcept {
    const uint32_t generation = generation_.load(std::memory_order_relaxed);
    if (Arrive()) {
      Release();
    } else {
      Await(generation);
    }
  }

  // The same, and the last to arrive also waits at `outer` before it lets the others go: the
  // barrier of all nodes, called on that of one.
  void WaitWithin(TeamBarrier& outer) noexcept {
    const uint32_t generation = generation_.load(std::memory_order_relaxed);
    if (Arrive()) {
      outer.Wait();
      Release();
    } else {
      Await(generation);
    }
  }

  // How often all have met.
  uint32_t n_meetings() const noexcept { return generation_.load(std::memory_order_relaxed); }

 private:
  // True for the last arrival, which must call Release. acq_rel: it collects the writes of the
  // others and hands them on there.
  bool Arrive() noexcept {
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 != count_) return false;
    arrived_.store(0, std::memory_order_relaxed);
    return true;
  }
  void Release() noexcept;
  void Await(uint32_t generation) noexcept;

  const uint32_t count_;
  // Own cache lines: arrivals must not disturb those who spin on the generation.
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<uint32_t> sleepers_{0};
};

}  // namespace stoker
