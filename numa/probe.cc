#include "numa/probe.h"

#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "numa/affinity.h"
#include "numa/bandwidth.h"
#include "numa/bytes.h"
#include "numa/system_files.h"
#include "numa/thread_team.h"
#include "numa/worker_placement.h"

namespace stoker {
namespace {

std::optional<uint64_t> ReadNumber(const std::string& path) {
  const std::string line = FirstLine(path);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc{} || end == line.data()) return std::nullopt;
  return value;
}

std::optional<int> ReadSetting(const std::string& path) {
  const std::optional<uint64_t> value = ReadNumber(path);
  if (!value || *value > 1'000'000) return std::nullopt;
  return static_cast<int>(*value);
}

// "always [madvise] never" -> "madvise".
std::string ChosenWord(const std::string& path) {
  const std::string line = FirstLine(path);
  const size_t open = line.find('[');
  const size_t close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return "";
  return line.substr(open + 1, close - open - 1);
}

// Bit 14 of the effective capabilities.
bool HasIpcLock(const std::string& root) {
  const std::string digits = StatusField(root + "/proc/self/status", "CapEff");
  uint64_t mask = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), mask, 16);
  return ((mask >> 14) & 1) != 0;
}

// All sizes of the pool together; the page size shown is the largest with pages in it.
void ReadHugetlbPool(const std::string& root, MachineReport& report) {
  std::error_code error;
  std::filesystem::directory_iterator sizes(root + "/sys/kernel/mm/hugepages", error);
  if (error) return;
  for (const std::filesystem::directory_entry& entry : sizes) {
    const std::string name = entry.path().filename().string();  // "hugepages-2048kB"
    constexpr std::string_view kPrefix = "hugepages-";
    if (!name.starts_with(kPrefix)) continue;
    uint64_t kib = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), kib);
    const uint64_t pages = ReadNumber(entry.path().string() + "/nr_hugepages").value_or(0);
    const std::optional<uint64_t> bytes = CheckedMul(pages, kib * kKiB);
    if (pages == 0 || !bytes) continue;
    report.hugetlb_pool_bytes += *bytes;
    report.hugetlb_page_bytes = std::max(report.hugetlb_page_bytes, kib * kKiB);
  }
}

// The machine with only one node's CPUs left, for a team that lives on it.
Topology OnlyNode(const Topology& topology, int node) {
  Topology result = topology;
  for (Topology::Core& core : result.cores) {
    if (core.node != node) core.allowed_cpus.clear();
  }
  return result;
}

}  // namespace

MachineReport MachineReport::Read(const std::string& root) {
  MachineReport report;
  report.topology = Topology::Detect();
  report.cpu = CpuFeatures::Detect();
  report.limits = ResourceLimits::Read(root);
  report.usable_cpus = report.limits.UsableCpus(report.topology.n_allowed_cpus());
  report.default_threads = DefaultThreads(report.topology, report.usable_cpus);
  report.allocator = SmallAllocator::Detect();
  utsname name{};
  if (::uname(&name) == 0) report.kernel_release = name.release;

  const std::string mm = root + "/sys/kernel/mm/transparent_hugepage";
  report.thp_mode = ChosenWord(mm + "/enabled");
  report.thp_defrag = ChosenWord(mm + "/defrag");
  ReadHugetlbPool(root, report);
  rlimit memlock{};
  if (::getrlimit(RLIMIT_MEMLOCK, &memlock) == 0 && memlock.rlim_cur != RLIM_INFINITY) {
    report.memlock_limit_bytes = memlock.rlim_cur;
  }
  report.may_lock_any = HasIpcLock(root);
  report.numa_balancing = ReadSetting(root + "/proc/sys/kernel/numa_balancing");
  report.zone_reclaim_mode = ReadSetting(root + "/proc/sys/vm/zone_reclaim_mode");
  report.overcommit_memory = ReadSetting(root + "/proc/sys/vm/overcommit_memory");
  report.io_uring_disabled = ReadSetting(root + "/proc/sys/kernel/io_uring_disabled");
  report.max_map_count = ReadSetting(root + "/proc/sys/vm/max_map_count");
  const std::string cpufreq = root + "/sys/devices/system/cpu/cpu0/cpufreq";
  report.cpu_governor = FirstLine(cpufreq + "/scaling_governor");
  report.cpu_driver = FirstLine(cpufreq + "/scaling_driver");
  return report;
}

void MeasureNodeBandwidth(MachineReport& report) {
  const Topology& topology = report.topology;
  const size_t n_nodes = topology.nodes.size();
  const uint64_t bytes = ProbeBytes(topology, UsableMemoryBytes());
  report.read_bandwidth.assign(n_nodes, std::vector<double>(n_nodes, 0.0));
  if (bytes == 0) return;
  {
    ThreadTeam team(report.default_threads);
    const NodeBuffer buffer = MakeProbeBuffer(team, bytes);
    report.total_read_bandwidth = MeasureReadBandwidth(team, buffer.span()).bytes_per_second;
  }
  if (!topology.is_this_system) return;  // Described nodes have no memory to read.
  if (n_nodes == 1) {
    report.read_bandwidth[0][0] = report.total_read_bandwidth;
    return;
  }
  for (size_t i = 0; i < n_nodes; ++i) {
    const Topology local = OnlyNode(topology, static_cast<int>(i));
    if (local.n_allowed_cores() == 0) continue;
    ThreadTeam team(PlaceWorkers(local, DefaultThreads(local)));
    for (size_t j = 0; j < n_nodes; ++j) {
      const Topology::Node& memory = topology.nodes[j];
      // A node that has not twice the room would spill onto its neighbours and lie.
      if (!memory.memory_allowed || memory.memory_bytes < 2 * bytes) continue;
      const NodeBuffer buffer = MakeProbeBuffer(team, bytes, memory.os_index);
      report.read_bandwidth[i][j] = MeasureReadBandwidth(team, buffer.span(), 3).bytes_per_second;
    }
  }
}

}  // namespace stoker
