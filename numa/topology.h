#pragma once

// The machine as a plain value: NUMA nodes, packages, L3 domains, cores, hardware threads,
// distances, and what of it the process may use. Filled once by hwloc, which no other file of the
// program sees; copied and passed freely afterwards. Not live: hot-plug and later cpuset changes do
// not show. Limits that are amounts and not sets (memory, CPU quota) are in memory_limits.h.

#include <cstdint>
#include <string>
#include <vector>

namespace stoker {

struct Topology {
  struct Core {
    int package = 0;                // index, [0, n_packages)
    int l3 = 0;                     // index in l3_domains
    int node = 0;                   // index in nodes: the nearest that lists this core
    std::vector<int> cpus;          // OS indices of its hardware threads
    std::vector<int> allowed_cpus;  // those of them that the process may run on
  };
  // Cores behind one last-level cache (a CCD on AMD). Where the machine shows no L3, the cores of
  // one package and node form a domain with cache_bytes 0.
  struct L3Domain {
    int package = 0;
    int node = 0;
    uint64_t cache_bytes = 0;
    std::vector<int> cores;  // indices in cores
  };
  struct Node {
    int os_index = 0;
    uint64_t memory_bytes = 0;   // 0: a node without memory
    bool memory_allowed = true;  // in the process's cpuset.mems
    std::vector<int> cores;      // indices in cores; empty: a node without CPUs (CXL, HBM)
  };

  std::vector<Node> nodes;  // ascending os_index; at least one
  std::vector<L3Domain> l3_domains;
  std::vector<Core> cores;
  int n_packages = 1;
  // distances[i][j]: relative latency of node j's memory seen from node i, by index in nodes; 10 is
  // local, as in ACPI SLIT. 10 / 20 where the system tells nothing.
  std::vector<std::vector<uint32_t>> distances;
  bool is_this_system = true;  // false: synthetic or from a file, nothing can be bound by it

  // The live machine, or what HWLOC_SYNTHETIC or HWLOC_XMLFILE in the environment describe.
  // Throws std::runtime_error when hwloc cannot load it.
  static Topology Detect();
  // From a description such as "pack:2 [numa(memory=256GB)] l3:4 core:8 pu:2".
  static Topology FromSynthetic(const std::string& description);
  // From the output of `lstopo file.xml` on another machine.
  static Topology FromXmlFile(const std::string& path);

  int n_cpus() const;           // hardware threads of the machine
  int n_allowed_cpus() const;   // those the process may run on
  int n_allowed_cores() const;  // cores with at least one of them
  // Node of the hardware thread, index in nodes; -1 where there is none of this OS index.
  int NodeOfCpu(int cpu) const;
};

}  // namespace stoker
