#pragma once

// What `stoker probe` reports of the machine: topology, instruction sets, limits, huge pages, swap,
// read bandwidth per node, and what is wrong with it. A plain value, filled once; finding problems
// and formatting are pure functions of it. Not here: disks and the ring (experts/), the rendering
// as JSON (runtime/cli).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "numa/cpu_features.h"
#include "numa/memory_limits.h"
#include "numa/small_allocator.h"
#include "numa/topology.h"

namespace stoker {

struct MachineReport {
  Topology topology;
  CpuFeatures cpu;
  ResourceLimits limits;
  int usable_cpus = 1;      // of ResourceLimits::UsableCpus
  int default_threads = 1;  // what -t defaults to
  SmallAllocator allocator;
  std::string kernel_release;

  // Kernel settings; empty or nullopt where the kernel does not have them.
  std::string thp_mode;    // "always", "madvise" or "never"
  std::string thp_defrag;  // the chosen word of .../transparent_hugepage/defrag
  uint64_t hugetlb_page_bytes = 0;
  uint64_t hugetlb_pool_bytes = 0;  // reserved pages of that size, which Stoker does not use
  std::optional<uint64_t> memlock_limit_bytes;  // RLIMIT_MEMLOCK; nullopt: unlimited
  bool may_lock_any = false;                    // CAP_IPC_LOCK: the limit does not apply
  std::optional<int> numa_balancing;
  std::optional<int> zone_reclaim_mode;
  std::optional<int> overcommit_memory;
  std::optional<int> io_uring_disabled;  // 0: for all, 1: for the privileged, 2: for nobody
  std::optional<int> max_map_count;
  std::string cpu_governor;  // of CPU 0
  std::string cpu_driver;    // cpufreq driver of CPU 0

  // read_bandwidth[i][j]: bytes/s of all workers of topology.nodes[i] reading memory of nodes[j]; 0
  // where i has no usable CPUs or j no usable memory. Empty until MeasureNodeBandwidth.
  std::vector<std::vector<double>> read_bandwidth;
  double total_read_bandwidth =
      0;  // all workers at once, pages where first touched; 0: not measured

  // Reads everything that costs milliseconds. `root` replaces / for files below /proc and /sys;
  // topology, CPU and resource limits of the process are always live. Throws what Topology::Detect
  // and ResourceLimits::Read throw.
  static MachineReport Read(const std::string& root = "");
};

// Fills the bandwidth fields: some seconds and up to ProbeBytes of memory. Engine thread only.
void MeasureNodeBandwidth(MachineReport& report);

struct Finding {
  enum class Severity { kNote, kWarning };  // kNote: a limit that may be intended
  Severity severity = Severity::kWarning;
  std::string problem;  // one line, with numbers
  std::string remedy;   // a shell command, or empty where only hardware helps
};

// Everything that costs speed or will fail later, worst first.
std::vector<Finding> FindProblems(const MachineReport& report);

// The report and its findings as text for a terminal, at most 100 columns, ending in a newline.
std::string FormatReport(const MachineReport& report);

}  // namespace stoker
