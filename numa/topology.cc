#include "numa/topology.h"

#include <hwloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>

#include "numa/affinity.h"

namespace stoker {
namespace {

using HwlocTopology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

[[noreturn]] void Fail(const std::string& what) {
  throw std::runtime_error("hwloc cannot " + what + ": " + std::strerror(errno));
}

HwlocTopology NewTopology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) Fail("start");
  HwlocTopology topology(raw, &hwloc_topology_destroy);
  // Only what Topology holds: instruction caches, groups and devices cost time on large machines.
  // Nodes and PUs cannot be left out. Disallowed parts stay visible, so that `probe` can say that a
  // cpuset hides half of the machine.
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  for (const hwloc_obj_type_t type : {HWLOC_OBJ_PACKAGE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_CORE}) {
    hwloc_topology_set_type_filter(raw, type, HWLOC_TYPE_FILTER_KEEP_ALL);
  }
  // Nodes smaller than a package (NPS4, sub-NUMA clusters) hang on groups: without them hwloc gives
  // every node all CPUs of the package.
  hwloc_topology_set_type_filter(raw, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
  hwloc_topology_set_flags(raw, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  return topology;
}

bool Intersects(hwloc_const_bitmap_t set, hwloc_const_bitmap_t other) {
  return set != nullptr && other != nullptr && hwloc_bitmap_intersects(set, other) != 0;
}

// NUMA nodes are no ancestors in hwloc's tree and may overlap: a node without CPUs carries the CPUs
// of its whole package or machine. A core belongs to the smallest node around it; among equals
// (DRAM and HBM of one package) to the first.
std::vector<int> CoresToNodes(const std::vector<hwloc_obj_t>& nodes,
                              const std::vector<hwloc_obj_t>& cores) {
  std::vector<int> home(cores.size(), 0);
  for (size_t c = 0; c < cores.size(); ++c) {
    int best_weight = -1;
    for (size_t n = 0; n < nodes.size(); ++n) {
      if (!Intersects(nodes[n]->cpuset, cores[c]->cpuset)) continue;
      const int weight = hwloc_bitmap_weight(nodes[n]->cpuset);
      if (best_weight < 0 || weight < best_weight) {
        best_weight = weight;
        home[c] = static_cast<int>(n);
      }
    }
  }
  return home;
}

std::vector<hwloc_obj_t> ObjectsOf(hwloc_topology_t topology, hwloc_obj_type_t type) {
  std::vector<hwloc_obj_t> objects;
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(topology, type, object)) != nullptr;) {
    objects.push_back(object);
  }
  return objects;
}

std::vector<std::vector<uint32_t>> ReadDistances(hwloc_topology_t topology,
                                                 const std::vector<hwloc_obj_t>& nodes) {
  const size_t n = nodes.size();
  std::vector<std::vector<uint32_t>> matrix(n, std::vector<uint32_t>(n, 20));
  for (size_t i = 0; i < n; ++i) matrix[i][i] = 10;

  hwloc_distances_s* found = nullptr;
  unsigned count = 1;
  if (hwloc_distances_get_by_name(topology, "NUMALatency", &count, &found, 0) != 0 || count == 0) {
    return matrix;
  }
  for (unsigned i = 0; i < found->nbobjs; ++i) {
    for (unsigned j = 0; j < found->nbobjs; ++j) {
      const auto from = std::find(nodes.begin(), nodes.end(), found->objs[i]);
      const auto to = std::find(nodes.begin(), nodes.end(), found->objs[j]);
      if (from == nodes.end() || to == nodes.end()) continue;
      matrix[static_cast<size_t>(from - nodes.begin())][static_cast<size_t>(to - nodes.begin())] =
          static_cast<uint32_t>(found->values[i * found->nbobjs + j]);
    }
  }
  hwloc_distances_release(topology, found);
  return matrix;
}

// cpuset of the process: cgroup cpusets through hwloc, taskset through the affinity mask, which
// hwloc leaves aside.
std::vector<int> AllowedCpus(hwloc_topology_t topology, hwloc_obj_t core, bool is_this_system) {
  std::vector<int> cpus;
  unsigned cpu = 0;
  const hwloc_const_bitmap_t allowed = hwloc_topology_get_allowed_cpuset(topology);
  hwloc_bitmap_foreach_begin(cpu, core->cpuset) {
    const bool in_affinity =
        !is_this_system ||
        std::binary_search(ProcessCpus().begin(), ProcessCpus().end(), static_cast<int>(cpu));
    if (hwloc_bitmap_isset(allowed, cpu) != 0 && in_affinity) {
      cpus.push_back(static_cast<int>(cpu));
    }
  }
  hwloc_bitmap_foreach_end();
  return cpus;
}

Topology Convert(hwloc_topology_t source) {
  Topology result;
  result.is_this_system = hwloc_topology_is_thissystem(source) != 0;

  std::vector<hwloc_obj_t> nodes = ObjectsOf(source, HWLOC_OBJ_NUMANODE);
  std::sort(nodes.begin(), nodes.end(),
            [](hwloc_obj_t a, hwloc_obj_t b) { return a->os_index < b->os_index; });
  // Some virtual machines show PUs without cores: each is its own core then.
  std::vector<hwloc_obj_t> cores = ObjectsOf(source, HWLOC_OBJ_CORE);
  if (cores.empty()) cores = ObjectsOf(source, HWLOC_OBJ_PU);
  const std::vector<hwloc_obj_t> packages = ObjectsOf(source, HWLOC_OBJ_PACKAGE);
  if (nodes.empty() || cores.empty()) throw std::runtime_error("hwloc shows no cores or no memory");
  result.n_packages = std::max(1, static_cast<int>(packages.size()));

  for (const hwloc_obj_t node : nodes) {
    Topology::Node value;
    value.os_index = static_cast<int>(node->os_index);
    value.memory_bytes = node->attr->numanode.local_memory;
    value.memory_allowed =
        hwloc_bitmap_isset(hwloc_topology_get_allowed_nodeset(source), node->os_index) != 0;
    result.nodes.push_back(std::move(value));
  }
  if (result.is_this_system && result.nodes.size() == 1) {
    // Virtual machines that grow after the start count the new memory for the machine only.
    const auto physical = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                          static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    result.nodes[0].memory_bytes = std::max(result.nodes[0].memory_bytes, physical);
  }
  result.distances = ReadDistances(source, nodes);

  const std::vector<int> home = CoresToNodes(nodes, cores);
  std::map<std::pair<const void*, int>, int> domain_of;  // L3 object or package, and node
  for (size_t c = 0; c < cores.size(); ++c) {
    Topology::Core core;
    core.node = home[c];
    const hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(source, HWLOC_OBJ_PACKAGE, cores[c]);
    core.package = package != nullptr ? static_cast<int>(package->logical_index) : 0;
    unsigned cpu = 0;
    hwloc_bitmap_foreach_begin(cpu, cores[c]->cpuset) {
      core.cpus.push_back(static_cast<int>(cpu));
    }
    hwloc_bitmap_foreach_end();
    core.allowed_cpus = AllowedCpus(source, cores[c], result.is_this_system);

    const hwloc_obj_t l3 = hwloc_get_ancestor_obj_by_type(source, HWLOC_OBJ_L3CACHE, cores[c]);
    const auto [entry, is_new] = domain_of.try_emplace({l3 != nullptr ? l3 : package, core.node},
                                                       static_cast<int>(result.l3_domains.size()));
    if (is_new) {
      result.l3_domains.push_back({.package = core.package,
                                   .node = core.node,
                                   .cache_bytes = l3 != nullptr ? l3->attr->cache.size : 0,
                                   .cores = {}});
    }
    core.l3 = entry->second;
    const int index = static_cast<int>(c);
    result.l3_domains[static_cast<size_t>(core.l3)].cores.push_back(index);
    result.nodes[static_cast<size_t>(core.node)].cores.push_back(index);
    result.cores.push_back(std::move(core));
  }
  return result;
}

}  // namespace

Topology Topology::Detect() {
  const HwlocTopology source = NewTopology();
  if (hwloc_topology_load(source.get()) != 0) Fail("read the machine's topology");
  return Convert(source.get());
}

Topology Topology::FromSynthetic(const std::string& description) {
  const HwlocTopology source = NewTopology();
  if (hwloc_topology_set_synthetic(source.get(), description.c_str()) != 0 ||
      hwloc_topology_load(source.get()) != 0) {
    Fail("build the synthetic topology '" + description + "'");
  }
  return Convert(source.get());
}

Topology Topology::FromXmlFile(const std::string& path) {
  const HwlocTopology source = NewTopology();
  if (hwloc_topology_set_xml(source.get(), path.c_str()) != 0 ||
      hwloc_topology_load(source.get()) != 0) {
    Fail("read the topology file " + path);
  }
  return Convert(source.get());
}

int Topology::n_cpus() const {
  int n = 0;
  for (const Core& core : cores) n += static_cast<int>(core.cpus.size());
  return n;
}

int Topology::n_allowed_cpus() const {
  int n = 0;
  for (const Core& core : cores) n += static_cast<int>(core.allowed_cpus.size());
  return n;
}

int Topology::n_allowed_cores() const {
  return static_cast<int>(std::count_if(
      cores.begin(), cores.end(), [](const Core& core) { return !core.allowed_cpus.empty(); }));
}

int Topology::NodeOfCpu(int cpu) const {
  for (const Core& core : cores) {
    if (std::find(core.cpus.begin(), core.cpus.end(), cpu) != core.cpus.end()) return core.node;
  }
  return -1;
}

}  // namespace stoker
