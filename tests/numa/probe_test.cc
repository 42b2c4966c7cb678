#include "numa/probe.h"

#include <algorithm>
#include <sstream>
#include <string>

#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/file_tree.h"

namespace stoker {
namespace {

// A workstation with nothing wrong.
MachineReport GoodMachine(const char* description = "pack:2 [numa(memory=64GB)] l3:2 core:4 pu:2") {
  MachineReport r;
  r.topology = Topology::FromSynthetic(description);
  r.cpu.avx2 = true;
  r.cpu.model_name = "Test CPU";
  r.limits.total_bytes = 128 * kGiB;
  r.limits.available_bytes = 100 * kGiB;
  r.usable_cpus = r.topology.n_cpus();
  r.default_threads = 16;
  r.kernel_release = "6.1.0";
  r.thp_mode = "madvise";
  r.thp_defrag = "madvise";
  r.numa_balancing = 0;
  r.zone_reclaim_mode = 0;
  r.overcommit_memory = 0;
  return r;
}

// The only finding, or a failed test.
Finding OnlyFinding(const MachineReport& report) {
  const std::vector<Finding> findings = FindProblems(report);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].problem.find('\n') == std::string::npos);
  return findings[0];
}

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a good machine has nothing to mend") {
  CHECK(FindProblems(GoodMachine()).empty());
  CHECK(Has(FormatReport(GoodMachine()), "nothing to mend"));
}

TEST_CASE("each fault has its finding and its command") {
  MachineReport r = GoodMachine();
  SECTION("transparent huge pages") {
    r.thp_mode = "never";
    CHECK(OnlyFinding(r).remedy ==
          "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
  }
  SECTION("overcommit") {
    r.overcommit_memory = 2;
    CHECK(OnlyFinding(r).remedy == "sudo sysctl vm.overcommit_memory=0");
  }
  SECTION("swap in use, not swap as such") {
    r.limits.swap_total_bytes = 8 * kGiB;
    r.limits.swap_free_bytes = 8 * kGiB;
    CHECK(FindProblems(r).empty());
    r.limits.swap_free_bytes = 6 * kGiB;
    CHECK(Has(OnlyFinding(r).problem, "2.00 GiB"));
  }
  SECTION("hugetlb pool") {
    r.hugetlb_pool_bytes = 16 * kGiB;
    r.hugetlb_page_bytes = 2 * kMiB;
    CHECK(OnlyFinding(r).remedy == "sudo sysctl vm.nr_hugepages=0");
    r.hugetlb_page_bytes = kGiB;
    CHECK(Has(OnlyFinding(r).remedy, "1048576kB"));
  }
  SECTION("memlock, unless the process may lock anything") {
    r.memlock_limit_bytes = 8 * kMiB;
    CHECK(Has(OnlyFinding(r).problem, "8.00 MiB"));
    r.may_lock_any = true;
    CHECK(FindProblems(r).empty());
  }
  SECTION("NUMA balancing and zone reclaim matter with several nodes only") {
    r.numa_balancing = 1;
    CHECK(OnlyFinding(r).remedy == "sudo sysctl kernel.numa_balancing=0");
    r.numa_balancing = 0;
    r.zone_reclaim_mode = 1;
    CHECK(OnlyFinding(r).remedy == "sudo sysctl vm.zone_reclaim_mode=0");
    r.topology = Topology::FromSynthetic("pack:1 [numa(memory=64GB)] core:4 pu:1");
    r.numa_balancing = 1;
    CHECK(FindProblems(r).empty());
  }
  SECTION("a node without memory has no command") {
    r.topology.nodes[1].memory_bytes = 0;
    CHECK(OnlyFinding(r).remedy.empty());
  }
  SECTION("cpuset.mems") {
    r.topology.nodes[1].memory_allowed = false;
    CHECK(Has(OnlyFinding(r).problem, "1 of 2 nodes"));
  }
  SECTION("cgroup memory") {
    r.limits.cgroup_limit_bytes = 32 * kGiB;
    CHECK(OnlyFinding(r).severity == Finding::Severity::kNote);
  }
  SECTION("CPU quota") {
    r.limits.cpu_quota = 2.5;
    r.default_threads = 3;
    CHECK(Has(OnlyFinding(r).problem, "2.5 CPUs: 3 of 16 cores"));
  }
  SECTION("cpuset") {
    r.topology.cores[0].allowed_cpus.pop_back();
    CHECK(Has(OnlyFinding(r).problem, "31 of 32"));
  }
  SECTION("no AVX2") {
    r.cpu.avx2 = false;
    CHECK(Has(OnlyFinding(r).problem, "AVX2"));
  }
  SECTION("governor") {
    r.cpu_governor = "powersave";
    r.cpu_driver = "intel_pstate";  // where powersave is the normal, scaling governor
    CHECK(FindProblems(r).empty());
    r.cpu_driver = "acpi-cpufreq";
    CHECK(Has(OnlyFinding(r).remedy, "cpupower"));
  }
}

TEST_CASE("warnings come before notes") {
  MachineReport r = GoodMachine();
  r.limits.cgroup_limit_bytes = 32 * kGiB;
  r.zone_reclaim_mode = 1;
  const std::vector<Finding> findings = FindProblems(r);
  REQUIRE(findings.size() == 2);
  CHECK(findings[0].severity == Finding::Severity::kWarning);
}

TEST_CASE("the report shows nodes, matrix and findings") {
  MachineReport r = GoodMachine();
  CHECK(Has(FormatReport(r), "distances from node"));
  r.read_bandwidth = {{200e9, 90e9}, {91e9, 201e9}};
  r.total_read_bandwidth = 400e9;
  r.thp_mode = "never";
  const std::string text = FormatReport(r);
  CHECK(Has(text, "read bandwidth: 400.0 GB/s with 16 threads"));
  CHECK(Has(text, "200.0 [10]"));
  CHECK(Has(text, "90.0 [20]"));
  CHECK(Has(text, "8 cores in 2 L3 domain(s), 16 CPUs"));
  CHECK(Has(text, "warning: transparent huge pages"));
  CHECK(text.back() == '\n');
}

TEST_CASE("kernel settings are read below the root") {
  FileTree tree;
  tree.Write("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 900 kB\n");
  tree.Write("/proc/self/status", "CapEff:\t0000000000004000\n");
  tree.Write("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  tree.Write("/sys/kernel/mm/transparent_hugepage/defrag", "always defer [defer+madvise] never\n");
  tree.Write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
  tree.Write("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n");
  tree.Write("/proc/sys/kernel/numa_balancing", "1\n");
  tree.Write("/proc/sys/vm/zone_reclaim_mode", "0\n");
  tree.Write("/proc/sys/vm/overcommit_memory", "garbage\n");
  const MachineReport r = MachineReport::Read(tree.root());
  CHECK(r.thp_mode == "never");
  CHECK(r.thp_defrag == "defer+madvise");
  CHECK(r.hugetlb_pool_bytes == kGiB);
  CHECK(r.hugetlb_page_bytes == 2 * kMiB);
  CHECK(r.numa_balancing == 1);
  CHECK(r.zone_reclaim_mode == 0);
  CHECK_FALSE(r.overcommit_memory);
  CHECK(r.may_lock_any);
  CHECK(r.cpu_governor.empty());
}

TEST_CASE("the live machine can be reported") {
  const std::string text = FormatReport(MachineReport::Read());
  CHECK(Has(text, "memory: "));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    CHECK(line.size() <= 130);  // the longest remedy
  }
}

}  // namespace
}  // namespace stoker
