#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "numa/bytes.h"
#include "numa/probe.h"

namespace stoker {
namespace {

using Severity = Finding::Severity;

__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...) {
  char text[512];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

// Enough for the ring itself and the page-in buffers that it registers.
constexpr uint64_t kWantedMemlockBytes = 64 * kMiB;

int CountNodes(const Topology& topology, bool (*is_wanted)(const Topology::Node&)) {
  return static_cast<int>(std::count_if(topology.nodes.begin(), topology.nodes.end(), is_wanted));
}

void FindMemoryProblems(const MachineReport& r, std::vector<Finding>& out) {
  if (r.thp_mode == "never") {
    out.push_back({Severity::kWarning,
                   "transparent huge pages are off: weights in 4 KiB pages cost TLB misses",
                   "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"});
  }
  if (r.overcommit_memory == 2) {
    out.push_back({Severity::kWarning,
                   "strict overcommit (vm.overcommit_memory=2): large reservations may be refused",
                   "sudo sysctl vm.overcommit_memory=0"});
  }
  const uint64_t swapped =
      r.limits.swap_total_bytes - std::min(r.limits.swap_total_bytes, r.limits.swap_free_bytes);
  if (swapped > 256 * kMiB) {
    out.push_back({Severity::kWarning,
                   FormatBytes(swapped) + " are swapped out: swapped weights are read back page by "
                                          "page",
                   "sudo swapoff -a && sudo swapon -a"});
  }
  if (r.hugetlb_pool_bytes > kGiB) {
    out.push_back({Severity::kWarning,
                   FormatBytes(r.hugetlb_pool_bytes) + " are reserved for hugetlbfs, which Stoker "
                                                       "does not use",
                   r.hugetlb_page_bytes == kGiB
                       ? "echo 0 | sudo tee "
                         "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
                       : "sudo sysctl vm.nr_hugepages=0"});
  }
  if (r.limits.cgroup_limit_bytes && *r.limits.cgroup_limit_bytes < r.limits.total_bytes) {
    out.push_back({Severity::kNote,
                   "memory cgroup limits the process to " +
                       FormatBytes(*r.limits.cgroup_limit_bytes) + " of " +
                       FormatBytes(r.limits.total_bytes),
                   "docker run --memory=... / systemd-run -p MemoryMax=infinity ..."});
  }
  if (r.io_uring_disabled.value_or(0) != 0) {
    out.push_back(
        {Severity::kNote,
         Format("io_uring is switched off (kernel.io_uring_disabled=%d): weights are read "
                "by a pool of threads",
                *r.io_uring_disabled),
         "sudo sysctl kernel.io_uring_disabled=0"});
  }
  if (r.memlock_limit_bytes && *r.memlock_limit_bytes < kWantedMemlockBytes && !r.may_lock_any) {
    out.push_back({Severity::kNote,
                   "at most " + FormatBytes(*r.memlock_limit_bytes) +
                       " may be locked: page-in buffers stay unregistered",
                   "echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/stoker.conf "
                   "# then log in again"});
  }
}

void FindNumaProblems(const MachineReport& r, std::vector<Finding>& out) {
  const Topology& t = r.topology;
  if (t.nodes.size() > 1 && r.numa_balancing.value_or(0) != 0) {
    out.push_back({Severity::kWarning,
                   "automatic NUMA balancing unmaps pages to watch them and moves weights about",
                   "sudo sysctl kernel.numa_balancing=0"});
  }
  if (t.nodes.size() > 1 && r.zone_reclaim_mode.value_or(0) != 0) {
    out.push_back({Severity::kWarning,
                   "zone reclaim drops page cache of a node rather than use another node's memory",
                   "sudo sysctl vm.zone_reclaim_mode=0"});
  }
  // A mapping for every node's part of M1's 8,300 matrices and states, in three quarters of all.
  const int wanted_maps = static_cast<int>(std::min<size_t>(t.nodes.size(), 64)) * 4 * 8'300 / 3;
  if (t.nodes.size() > 1 && r.max_map_count && *r.max_map_count < wanted_maps) {
    out.push_back(
        {Severity::kNote,
         Format("vm.max_map_count=%d: parts of M1's matrices are rounded to huge pages on "
                "%zu nodes",
                *r.max_map_count, t.nodes.size()),
         Format("sudo sysctl vm.max_map_count=%d", 2 * wanted_maps)});
  }
  const int without_memory = CountNodes(
      t, [](const Topology::Node& node) { return !node.cores.empty() && node.memory_bytes == 0; });
  if (without_memory > 0) {
    out.push_back({Severity::kWarning,
                   Format("%d NUMA node(s) with CPUs have no memory: all their reads are remote; "
                          "populate their channels",
                          without_memory),
                   ""});
  }
  const int forbidden =
      CountNodes(t, [](const Topology::Node& node) { return !node.memory_allowed; });
  if (forbidden > 0) {
    out.push_back({Severity::kNote,
                   Format("cpuset.mems keeps the process from the memory of %d of %zu nodes",
                          forbidden, t.nodes.size()),
                   "docker run --cpuset-mems=... / systemd-run -p AllowedMemoryNodes=..."});
  }
}

void FindCpuProblems(const MachineReport& r, std::vector<Finding>& out) {
  if (r.cpu.best_level() == IsaLevel::kScalar) {
    out.push_back({Severity::kWarning,
                   "no AVX2 with FMA and F16C: only the slow scalar kernels run here (in a virtual "
                   "machine: pass the host's CPU model through)",
                   ""});
  }
  if (r.cpu_driver == "acpi-cpufreq" && r.cpu_governor == "powersave") {
    out.push_back({Severity::kWarning,
                   "the powersave governor holds the CPUs at their lowest clock",
                   "sudo cpupower frequency-set -g performance"});
  }
  const int cores = r.topology.n_allowed_cores();
  if (r.limits.cpu_quota && r.default_threads < cores) {
    out.push_back({Severity::kNote,
                   Format("CPU quota of %.1f CPUs: %d of %d cores are used", *r.limits.cpu_quota,
                          r.default_threads, cores),
                   "docker run --cpus=... / systemd-run -p CPUQuota= ..."});
  }
  if (r.topology.n_allowed_cpus() < r.topology.n_cpus()) {
    out.push_back({Severity::kNote,
                   Format("the cpuset allows %d of %d hardware threads",
                          r.topology.n_allowed_cpus(), r.topology.n_cpus()),
                   "docker run --cpuset-cpus=... / taskset -c ..."});
  }
}

std::string YesList(const CpuFeatures& cpu) {
  std::string list;
  const auto add = [&](bool has, const char* name) {
    if (!has) return;
    if (!list.empty()) list += ' ';
    list += name;
  };
  add(cpu.avx2, "avx2");
  add(cpu.avx_vnni, "avx_vnni");
  add(cpu.avx512, "avx512");
  add(cpu.avx512_vnni, "avx512_vnni");
  add(cpu.avx512_bf16, "avx512_bf16");
  add(cpu.amx_int8, "amx_int8");
  add(cpu.amx_bf16, "amx_bf16");
  return list.empty() ? "none" : list;
}

std::string FormatNode(const Topology& t, size_t index) {
  const Topology::Node& node = t.nodes[index];
  int cpus = 0;
  int allowed = 0;
  for (const int core : node.cores) {
    cpus += static_cast<int>(t.cores[static_cast<size_t>(core)].cpus.size());
    allowed += static_cast<int>(t.cores[static_cast<size_t>(core)].allowed_cpus.size());
  }
  const auto domains = std::count_if(
      t.l3_domains.begin(), t.l3_domains.end(),
      [&](const Topology::L3Domain& domain) { return domain.node == static_cast<int>(index); });
  std::string text = Format("  node %d: %s", node.os_index, FormatBytes(node.memory_bytes).c_str());
  text += node.memory_allowed ? "" : " (not allowed)";
  if (node.cores.empty()) return text + ", no CPUs\n";
  text += Format(", %zu cores in %d L3 domain(s), %d CPUs", node.cores.size(),
                 static_cast<int>(domains), cpus);
  if (allowed < cpus) text += Format(" (%d allowed)", allowed);
  return text + "\n";
}

std::string FormatMatrix(const MachineReport& r) {
  const std::vector<Topology::Node>& nodes = r.topology.nodes;
  std::string text;
  if (r.total_read_bandwidth > 0) {
    text += Format("read bandwidth: %.1f GB/s with %d threads\n", r.total_read_bandwidth / 1e9,
                   r.default_threads);
  }
  if (nodes.size() < 2) return text;
  const bool measured = !r.read_bandwidth.empty();
  text += measured ? "GB/s read by node (row) from node (column), distance in brackets:\n"
                   : "distances from node (row) to node (column):\n";
  for (size_t i = 0; i < nodes.size(); ++i) {
    text += Format("  node %-3d", nodes[i].os_index);
    for (size_t j = 0; j < nodes.size(); ++j) {
      const unsigned distance = r.topology.distances[i][j];
      text += measured ? Format(" %7.1f [%u]", r.read_bandwidth[i][j] / 1e9, distance)
                       : Format(" %4u", distance);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::vector<Finding> FindProblems(const MachineReport& report) {
  std::vector<Finding> findings;
  FindCpuProblems(report, findings);
  FindMemoryProblems(report, findings);
  FindNumaProblems(report, findings);
  std::stable_sort(findings.begin(), findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
  return findings;
}

std::string FormatReport(const MachineReport& r) {
  const Topology& t = r.topology;
  std::string text = r.cpu.model_name + ", Linux " + r.kernel_release + "\n";
  text += "instruction sets: " + YesList(r.cpu) +
          "; kernels: " + std::string(IsaLevelName(r.cpu.best_level())) + "\n";
  text += Format("%d package(s), %zu node(s), %zu L3 domain(s), %zu cores, %d hardware threads%s\n",
                 t.n_packages, t.nodes.size(), t.l3_domains.size(), t.cores.size(), t.n_cpus(),
                 t.is_this_system ? "" : " (described, not this machine)");
  for (size_t i = 0; i < t.nodes.size(); ++i) text += FormatNode(t, i);
  text += Format("usable: %d CPUs, %d threads by default", r.usable_cpus, r.default_threads);
  if (r.limits.cpu_quota) text += Format(", CPU quota %.2f", *r.limits.cpu_quota);
  text += "\nmemory: " + FormatBytes(r.limits.total_bytes) + ", usable " +
          FormatBytes(r.limits.UsableMemoryBytes());
  if (r.limits.cgroup_limit_bytes) {
    text += ", cgroup limit " + FormatBytes(*r.limits.cgroup_limit_bytes);
  }
  text += ", swap " + FormatBytes(r.limits.swap_total_bytes) + "\n";
  text += "huge pages: transparent " + (r.thp_mode.empty() ? "absent" : r.thp_mode) + ", defrag " +
          (r.thp_defrag.empty() ? "absent" : r.thp_defrag) + ", hugetlb pool " +
          FormatBytes(r.hugetlb_pool_bytes) + "\n";
  text += "memlock: " +
          (r.may_lock_any || !r.memlock_limit_bytes ? std::string("unlimited")
                                                    : FormatBytes(*r.memlock_limit_bytes)) +
          "; malloc: " + r.allocator.Describe() + "\n";
  text += FormatMatrix(r);

  const std::vector<Finding> findings = FindProblems(r);
  if (findings.empty()) text += "nothing to mend\n";
  for (const Finding& finding : findings) {
    text += finding.severity == Severity::kWarning ? "warning: " : "note: ";
    text += finding.problem + "\n";
    if (!finding.remedy.empty()) text += "    " + finding.remedy + "\n";
  }
  return text;
}

}  // namespace stoker
