#include "numa/team_barrier.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace stoker {
namespace {

// A pause takes 20-70 ns on the machines we know, so this is 0.4-1.4 ms: longer than any barrier of
// a balanced layer, short against the time slice that a descheduled worker may need.
constexpr int kSpins = 20'000;

}  // namespace

void TeamBarrier::Release() noexcept {
  // Sequentially consistent, as is the load of sleepers_ below and its increment in Await: either
  // the sleeper sees the new generation or we see the sleeper.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    ::syscall(SYS_futex, &generation_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
}

void TeamBarrier::Await(uint32_t generation) noexcept {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (generation_.load(std::memory_order_acquire) != generation) return;
    _mm_pause();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (generation_.load(std::memory_order_seq_cst) == generation) {
    // Returns at once when the generation has moved, and may wake for no reason: hence the loop.
    ::syscall(SYS_futex, &generation_, FUTEX_WAIT_PRIVATE, generation, nullptr, nullptr, 0);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace stoker
