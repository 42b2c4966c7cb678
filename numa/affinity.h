#pragma once

// Which CPUs threads may run on, by OS index: thin wrappers of sched_getaffinity and
// sched_setaffinity without a limit of 1024 CPUs. Thread-safe. Deciding who runs where is the
// business of worker_placement.h.

#include <span>
#include <vector>

namespace stoker {

// CPUs of the calling thread, ascending. Throws std::system_error.
std::vector<int> ThisThreadCpus();

// The CPUs that the process was given (cpuset and taskset): the affinity of the thread that asked
// first, kept, so that later pinning does not narrow it. ThreadTeam asks before it pins.
const std::vector<int>& ProcessCpus();

// Moves the calling thread to these CPUs; false when the system refuses. Threads started later by
// this thread inherit it.
bool BindThisThread(std::span<const int> cpus) noexcept;

// Undoes inherited pinning: every thread that is not a team's worker (I/O, HTTP) calls it first.
void UnbindThisThread() noexcept;

}  // namespace stoker
