#pragma once

// How much of the machine this process may use: cgroup v1 and v2 memory limits along the whole
// path (nested groups, "max"), free memory of the machine and of the allowed nodes, address-space
// limit, CPU quota and cpuset. A snapshot value, read from /proc and /sys under a root directory
// that tests replace. Thread-safe. It reports; refusing a budget is the caller's business.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stoker {

struct ResourceLimits {
  // The machine, from /proc/meminfo, bytes.
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;  // MemAvailable: free, or page cache that can be dropped
  uint64_t swap_total_bytes = 0;
  uint64_t swap_free_bytes = 0;

  // The tightest memory limit (v1 limit_in_bytes; v2 max and high) on the way from the process's
  // cgroup to the root, and the usage at that level. nullopt: no limit.
  std::optional<uint64_t> cgroup_limit_bytes;
  uint64_t cgroup_usage_bytes = 0;
  std::string cgroup_path;  // directory of that level; empty without a limit
  // Smallest over the levels of limit - usage + page cache that can be dropped; levels differ,
  // because siblings count into their parent. nullopt: no limit.
  std::optional<uint64_t> cgroup_available_bytes;

  // Free memory of the allowed nodes where cpuset.mems leaves some out. nullopt: all allowed.
  std::optional<uint64_t> allowed_nodes_available_bytes;
  // What RLIMIT_AS leaves of the address space. nullopt: no limit.
  std::optional<uint64_t> address_space_left_bytes;

  std::optional<double> cpu_quota;  // in CPUs, 1.5 = 150 ms per 100 ms; nullopt: none
  std::vector<int> cpuset;          // CPUs of the cpuset cgroup; empty: none found

  // Reads everything below `root` ("" is the live machine; the address-space limit is always the
  // process's own). Throws std::runtime_error when /proc/meminfo cannot be read; a missing or
  // odd cgroup file counts as no limit.
  static ResourceLimits Read(const std::string& root = "");

  // What the process may still allocate: the smallest of the amounts above, without swap.
  uint64_t UsableMemoryBytes() const;
  // min(affinity_cpus, cpuset, quota rounded up), at least 1.
  int UsableCpus(int affinity_cpus) const;
};

// The same of the live machine, now.
uint64_t UsableMemoryBytes();
int UsableCpus();

// "0-3,8,10-11" as the kernel writes CPU and node lists -> ascending numbers. Malformed parts end
// the list. At most 65536 numbers.
std::vector<int> ParseIndexList(std::string_view text);

}  // namespace stoker
