#include "numa/worker_placement.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <vector>

#include "numa/topology.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

struct Spread {
  std::vector<int> per_node;  // by index in topology.nodes
  std::vector<int> per_l3;
  std::vector<int> per_core;
};

Spread SpreadOf(const Topology& t, const std::vector<WorkerPlace>& places) {
  Spread s{std::vector<int>(t.nodes.size()), std::vector<int>(t.l3_domains.size()),
           std::vector<int>(t.cores.size())};
  for (const WorkerPlace& place : places) {
    for (size_t c = 0; c < t.cores.size(); ++c) {
      const Topology::Core& core = t.cores[c];
      if (std::count(core.allowed_cpus.begin(), core.allowed_cpus.end(), place.cpu) == 0) continue;
      ++s.per_core[c];
      ++s.per_l3[static_cast<size_t>(core.l3)];
      ++s.per_node[static_cast<size_t>(core.node)];
    }
  }
  return s;
}

int Range(const std::vector<int>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return *high - *low;
}

TEST_CASE("even machines: workers differ by at most one per node, L3 domain and core") {
  for (const char* description :
       {"pack:2 [numa] l3:4 core:8 pu:2", "pack:1 [numa] l3:8 core:8 pu:2", "node:4 core:2 pu:1",
        "pack:2 numa:4 l3:2 core:4 pu:2", "pack:1 [numa] core:2 pu:1"}) {
    const Topology t = Topology::FromSynthetic(description);
    for (int n = 1; n <= t.n_allowed_cpus(); ++n) {
      CAPTURE(description, n);
      const std::vector<WorkerPlace> places = PlaceWorkers(t, n);
      REQUIRE(static_cast<int>(places.size()) == n);
      std::set<int> cpus;
      for (const WorkerPlace& place : places) cpus.insert(place.cpu);
      REQUIRE(static_cast<int>(cpus.size()) == n);
      const Spread s = SpreadOf(t, places);
      REQUIRE(Range(s.per_node) <= 1);
      REQUIRE(Range(s.per_core) <= 1);
      // Within a node; over the whole machine odd shares may add up to two.
      REQUIRE(Range(s.per_l3) <= 2);
      for (size_t i = 1; i < places.size(); ++i) REQUIRE(places[i].node >= places[i - 1].node);
      REQUIRE(places.front().node == 0);
    }
  }
}

TEST_CASE("one worker per physical core before second hardware threads") {
  const Topology t = Topology::FromSynthetic("pack:2 [numa] l3:2 core:2 pu:2");
  CHECK(SpreadOf(t, PlaceWorkers(t, 8)).per_core == std::vector<int>(8, 1));
  CHECK(SpreadOf(t, PlaceWorkers(t, 16)).per_core == std::vector<int>(8, 2));
}

TEST_CASE("a node that is full passes its share on") {
  Topology t = Topology::FromSynthetic("node:2 core:4 pu:1");
  // A cpuset that leaves one core of the first node and one L3 domain empty-handed.
  for (const int core : {1, 2, 3}) t.cores[static_cast<size_t>(core)].allowed_cpus.clear();
  CHECK(SpreadOf(t, PlaceWorkers(t, 2)).per_node == std::vector<int>{1, 1});
  CHECK(SpreadOf(t, PlaceWorkers(t, 4)).per_node == std::vector<int>{1, 3});
  CHECK(DefaultThreads(t) == 5);
  CHECK_THROWS_AS(PlaceWorkers(t, 6), std::runtime_error);
}

TEST_CASE("nodes without workers are not counted") {
  Topology t = Topology::FromSynthetic("node:3 core:2 pu:1");
  for (const int core : {0, 1}) t.cores[static_cast<size_t>(core)].allowed_cpus.clear();
  const std::vector<WorkerPlace> places = PlaceWorkers(t, 2);
  CHECK(places == std::vector<WorkerPlace>{{.cpu = 2, .node = 0}, {.cpu = 4, .node = 1}});
}

TEST_CASE("default thread count: physical cores, capped by the quota") {
  const Topology t = Topology::FromSynthetic("pack:1 [numa] core:8 pu:2");
  CHECK(DefaultThreads(t) == 8);
  CHECK(DefaultThreads(t, 3) == 3);
  CHECK(DefaultThreads(t, 16) == 8);
}

TEST_CASE("impossible counts are refused") {
  const Topology t = Topology::FromSynthetic("pack:1 [numa] core:2 pu:1");
  CHECK_THROWS_AS(PlaceWorkers(t, 0), std::runtime_error);
  CHECK_THROWS_AS(PlaceWorkers(t, 3), std::runtime_error);
}

}  // namespace
}  // namespace stoker
