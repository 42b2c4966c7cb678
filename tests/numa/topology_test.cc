#include "numa/topology.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>

#include "numa/affinity.h"
#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/file_tree.h"

namespace stoker {
namespace {

// What must hold of every topology, whatever it describes.
void CheckConsistent(const Topology& t) {
  REQUIRE_FALSE(t.nodes.empty());
  REQUIRE_FALSE(t.cores.empty());
  REQUIRE(t.distances.size() == t.nodes.size());
  for (size_t i = 0; i < t.nodes.size(); ++i) {
    REQUIRE(t.distances[i].size() == t.nodes.size());
    CHECK(t.distances[i][i] <= *std::min_element(t.distances[i].begin(), t.distances[i].end()));
    if (i > 0) CHECK(t.nodes[i - 1].os_index < t.nodes[i].os_index);
  }
  std::vector<int> in_nodes(t.cores.size(), 0);
  std::vector<int> in_domains(t.cores.size(), 0);
  for (size_t n = 0; n < t.nodes.size(); ++n) {
    for (const int core : t.nodes[n].cores) {
      ++in_nodes[static_cast<size_t>(core)];
      CHECK(t.cores[static_cast<size_t>(core)].node == static_cast<int>(n));
    }
  }
  for (size_t d = 0; d < t.l3_domains.size(); ++d) {
    for (const int core : t.l3_domains[d].cores) {
      ++in_domains[static_cast<size_t>(core)];
      CHECK(t.cores[static_cast<size_t>(core)].l3 == static_cast<int>(d));
      CHECK(t.cores[static_cast<size_t>(core)].node == t.l3_domains[d].node);
      CHECK(t.cores[static_cast<size_t>(core)].package == t.l3_domains[d].package);
    }
  }
  CHECK(in_nodes == std::vector<int>(t.cores.size(), 1));
  CHECK(in_domains == std::vector<int>(t.cores.size(), 1));
  for (const Topology::Core& core : t.cores) {
    CHECK(core.package < t.n_packages);
    CHECK_FALSE(core.cpus.empty());
    for (const int cpu : core.allowed_cpus) {
      CHECK(std::find(core.cpus.begin(), core.cpus.end(), cpu) != core.cpus.end());
    }
  }
}

TEST_CASE("the live machine") {
  const Topology t = Topology::Detect();
  CheckConsistent(t);
  if (!t.is_this_system) return;  // described by the environment
  CHECK(t.n_allowed_cpus() == static_cast<int>(ProcessCpus().size()));
  CHECK(t.NodeOfCpu(ProcessCpus().front()) >= 0);
  CHECK(t.NodeOfCpu(100000) == -1);
}

TEST_CASE("two packages with four L3 domains each and SMT") {
  const Topology t = Topology::FromSynthetic("pack:2 [numa(memory=256GB)] l3:4 core:8 pu:2");
  CheckConsistent(t);
  CHECK_FALSE(t.is_this_system);
  CHECK(t.n_packages == 2);
  REQUIRE(t.nodes.size() == 2);
  CHECK(t.nodes[0].memory_bytes >= 238 * kGiB);  // hwloc's GB is 10^9 or 2^30 by version
  CHECK(t.nodes[0].cores.size() == 32);
  CHECK(t.l3_domains.size() == 8);
  CHECK(t.l3_domains[0].cores.size() == 8);
  CHECK(t.l3_domains[0].cache_bytes > 0);
  CHECK(t.cores.size() == 64);
  CHECK(t.cores[0].cpus.size() == 2);
  CHECK(t.n_cpus() == 128);
  CHECK(t.n_allowed_cpus() == 128);
  CHECK(t.n_allowed_cores() == 64);
  CHECK(t.NodeOfCpu(0) == 0);
  CHECK(t.NodeOfCpu(127) == 1);
  CHECK(t.distances[0] == std::vector<uint32_t>{10, 20});
}

TEST_CASE("four nodes per socket") {
  const Topology t = Topology::FromSynthetic("pack:2 numa:4 l3:2 core:4 pu:1");
  CheckConsistent(t);
  CHECK(t.nodes.size() == 8);
  CHECK(t.l3_domains.size() == 16);
  for (const Topology::Node& node : t.nodes) CHECK(node.cores.size() == 8);
}

TEST_CASE("a machine without L3 has one domain per package and node") {
  const Topology t = Topology::FromSynthetic("node:4 core:2 pu:1");
  CheckConsistent(t);
  CHECK(t.nodes.size() == 4);
  CHECK(t.l3_domains.size() == 4);
  CHECK(t.l3_domains[0].cache_bytes == 0);
}

TEST_CASE("a far node without CPUs gets no cores") {
  // The machine-wide node stands for CXL memory: it surrounds both package nodes.
  const Topology t =
      Topology::FromSynthetic("[numa(memory=512GB)] pack:2 [numa(memory=128GB)] core:4 pu:1");
  CheckConsistent(t);
  REQUIRE(t.nodes.size() == 3);
  const auto empty = std::count_if(t.nodes.begin(), t.nodes.end(),
                                   [](const Topology::Node& node) { return node.cores.empty(); });
  CHECK(empty == 1);
  for (const Topology::Node& node : t.nodes) {
    if (node.cores.empty())
      CHECK(node.memory_bytes > 400 * kGiB);
    else
      CHECK(node.cores.size() == 4);
  }
}

TEST_CASE("of two equal nodes around a package the first has the cores") {
  const Topology t =
      Topology::FromSynthetic("pack:1 [numa(memory=64GB)] [numa(memory=16GB)] core:4 pu:1");
  CheckConsistent(t);
  REQUIRE(t.nodes.size() == 2);
  CHECK(t.nodes[0].cores.size() == 4);
  CHECK(t.nodes[1].cores.empty());
}

TEST_CASE("a topology file of another machine") {
  FileTree tree;
  // Two nodes, the second without memory, and one hardware thread outside of the cpuset.
  tree.Write("/machine.xml", R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x0000000f" complete_cpuset="0x0000000f"
          allowed_cpuset="0x00000007" nodeset="0x00000003" complete_nodeset="0x00000003"
          allowed_nodeset="0x00000001" gp_index="1">
    <object type="Package" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003"
            nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="2">
      <object type="NUMANode" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003"
              nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="3"
              local_memory="1073741824"/>
      <object type="Core" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001"
              nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="4">
        <object type="PU" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001"
                nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="5"/>
      </object>
      <object type="Core" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002"
              nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="6">
        <object type="PU" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002"
                nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="7"/>
      </object>
    </object>
    <object type="Package" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c"
            nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="8">
      <object type="NUMANode" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c"
              nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="9" local_memory="0"/>
      <object type="Core" os_index="0" cpuset="0x0000000c" complete_cpuset="0x0000000c"
              nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="10">
        <object type="PU" os_index="2" cpuset="0x00000004" complete_cpuset="0x00000004"
                nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="11"/>
        <object type="PU" os_index="3" cpuset="0x00000008" complete_cpuset="0x00000008"
                nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="12"/>
      </object>
    </object>
  </object>
  <distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">
    <indexes length="4">0 1 </indexes>
    <u64values length="12">10 32 31 10 </u64values>
  </distances2>
</topology>
)");
  const Topology t = Topology::FromXmlFile(tree.root() + "/machine.xml");
  CheckConsistent(t);
  CHECK_FALSE(t.is_this_system);
  REQUIRE(t.nodes.size() == 2);
  CHECK(t.nodes[0].memory_bytes == kGiB);
  CHECK(t.nodes[1].memory_bytes == 0);
  CHECK(t.nodes[0].memory_allowed);
  CHECK_FALSE(t.nodes[1].memory_allowed);
  CHECK(t.distances == std::vector<std::vector<uint32_t>>{{10, 32}, {31, 10}});
  CHECK(t.n_cpus() == 4);
  CHECK(t.n_allowed_cpus() == 3);
  CHECK(t.cores.back().allowed_cpus == std::vector<int>{2});
}

TEST_CASE("nonsense is refused") {
  CHECK_THROWS_AS(Topology::FromSynthetic("pack:two"), std::runtime_error);
  CHECK_THROWS_AS(Topology::FromXmlFile("/nonexistent/topology.xml"), std::runtime_error);
}

TEST_CASE("the environment describes the machine") {
  ::setenv("HWLOC_SYNTHETIC", "node:2 core:3 pu:1", 1);
  const Topology t = Topology::Detect();
  ::unsetenv("HWLOC_SYNTHETIC");
  CheckConsistent(t);
  CHECK(t.nodes.size() == 2);
  CHECK(t.n_cpus() == 6);
  CHECK_FALSE(t.is_this_system);
}

}  // namespace
}  // namespace stoker
