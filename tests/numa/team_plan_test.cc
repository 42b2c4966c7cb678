#include "numa/team_plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "numa/bytes.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

PlanInput SmallInput(const char* choice) {
  PlanInput input;
  input.choice = ParseNumaChoice(choice);
  input.tensors = {{.name = "matrix", .rows = 1024, .row_bytes = 4096, .row_grain = 32}};
  return input;
}

struct Made {
  PlacementPlan plan;
  TeamPlan team;
};

Made MakeFor(Topology topology, const char* choice, int n_threads) {
  topology.is_this_system = true;  // so that the nodes are named
  const PlanInput input = SmallInput(choice);
  topology = ChosenTopology(topology, input.choice);
  const std::vector<WorkerPlace> places = PlaceWorkers(topology, n_threads);
  topology = OnlyPlaced(topology, places);
  PlacementPlan plan = PlacementPlan::Make(topology, input);
  TeamPlan team = MakeTeamPlan(topology, plan, places);
  return {std::move(plan), std::move(team)};
}

// Memory of the team's partition is where the plan has the rows.
void CheckSameCuts(const Made& made) {
  const std::vector<Partition::Piece> memory = made.team.partition.MemoryOf(1024, 32);
  for (const PlannedPart& part : made.plan.tensors.front().parts) {
    const int os_node = made.plan.nodes[static_cast<size_t>(part.node)].os_node;
    const auto piece = std::find_if(memory.begin(), memory.end(),
                                    [&](const auto& p) { return p.os_node == os_node; });
    REQUIRE(piece != memory.end());
    CHECK(piece->end - piece->begin == part.row_end - part.row_begin);
  }
  CHECK(memory.size() == made.plan.tensors.front().parts.size());
}

TEST_CASE("shard: a node of the partition per node, workers grouped, cuts as planned") {
  for (const char* machine :
       {"node:2(memory=64GB) core:4 pu:2", "pack:2 numa:4(memory=64GB) l3:2 core:2 pu:1",
        "node:3(memory=64GB) core:5 pu:1", "node:1(memory=64GB) core:8 pu:1"}) {
    for (const int n_threads : {3, 5, 8}) {
      CAPTURE(machine, n_threads);
      const Topology t = Topology::FromSynthetic(machine);
      const Made made = MakeFor(t, "shard", n_threads);
      const Partition& partition = made.team.partition;
      CHECK(partition.n_workers() == n_threads);
      CHECK(partition.n_nodes() == std::min<int>(n_threads, static_cast<int>(t.nodes.size())));
      for (int w = 0; w < n_threads; ++w) {
        const WorkerPlace& place = made.team.places[static_cast<size_t>(w)];
        CHECK(place.node == partition.NodeOf(w));
        CHECK(partition.nodes()[static_cast<size_t>(place.node)].memory.front().os_node ==
              t.nodes[static_cast<size_t>(t.NodeOfCpu(place.cpu))].os_index);
      }
      CheckSameCuts(made);
    }
  }
}

TEST_CASE("workers behind one L3 are neighbours, so their rows are one range") {
  const Topology t = Topology::FromSynthetic("node:2(memory=64GB) l3:4 core:4 pu:1");
  for (const int n_threads : {8, 12, 32}) {
    const Made made = MakeFor(t, "shard", n_threads);
    std::vector<int> domains;
    std::vector<int> per_domain(t.l3_domains.size(), 0);
    for (const WorkerPlace& place : made.team.places) {
      for (const Topology::Core& core : t.cores) {
        if (core.cpus.front() != place.cpu) continue;
        if (domains.empty() || domains.back() != core.l3) domains.push_back(core.l3);
        ++per_domain[static_cast<size_t>(core.l3)];
      }
    }
    CHECK(domains.size() == t.l3_domains.size());
    const auto [least, most] = std::minmax_element(per_domain.begin(), per_domain.end());
    CHECK(*most - *least <= 1);
  }
}

TEST_CASE("a node without memory works for its neighbour, memory without cores is worked for") {
  Topology t = Topology::FromSynthetic("node:3(memory=64GB) core:2 pu:1");
  t.nodes[2].memory_bytes = 0;
  const Made helped = MakeFor(t, "shard", 6);
  CHECK(helped.team.partition.n_nodes() == 2);
  CHECK(helped.team.partition.n_workers(0) + helped.team.partition.n_workers(1) == 6);
  CheckSameCuts(helped);

  // CXL: far memory takes what near memory cannot hold.
  Topology far =
      Topology::FromSynthetic("[numa(memory=64GB)] pack:2 [numa(memory=1GB)] core:2 pu:1");
  for (Topology::Node& node : far.nodes) {
    if (!node.cores.empty()) node.memory_bytes = kMiB;
  }
  const Made made = MakeFor(far, "shard", 4);
  CHECK(made.team.partition.n_nodes() == 2);
  CheckSameCuts(made);
}

TEST_CASE("the other modes are one node of the partition") {
  const Topology t = Topology::FromSynthetic("node:2(memory=64GB) core:4 pu:1");
  const Made off = MakeFor(t, "off", 8);
  CHECK(off.team.partition.n_nodes() == 1);
  CHECK_FALSE(off.team.partition.binds_rows());
  CHECK(off.team.partition.stripe_nodes().empty());

  const Made interleave = MakeFor(t, "interleave", 8);
  CHECK(interleave.team.partition.is_interleaved());
  CHECK(interleave.team.partition.stripe_nodes() == std::vector<int>{0, 1});

  const Made node = MakeFor(t, "node:1", 4);
  CHECK(node.team.partition.binds_rows());
  CHECK(node.team.partition.nodes().front().memory.front().os_node == 1);
  for (const WorkerPlace& place : node.team.places) CHECK(t.NodeOfCpu(place.cpu) == 1);
  CHECK_THROWS_AS(MakeFor(t, "node:7", 4), std::runtime_error);
}

TEST_CASE("virtual nodes divide the cores of one") {
  const Topology t = Topology::FromSynthetic("node:1(memory=64GB) core:8 pu:1");
  const Made made = MakeFor(t, "virtual:3,1", 8);
  CHECK(made.team.partition.n_nodes() == 2);
  CHECK(made.team.partition.n_workers(0) == 4);
  CHECK(made.team.partition.NodeRows(0, 1024) == Partition::Range{0, 768});
  CHECK_THROWS_AS(MakeFor(t, "virtual:9", 8), std::runtime_error);
}

TEST_CASE("a described machine is neither bound nor pinned") {
  const Topology t = Topology::FromSynthetic("node:2(memory=64GB) core:4 pu:1");
  const PlacementPlan plan = PlacementPlan::Make(t, SmallInput("shard"));
  const TeamPlan team = MakeTeamPlan(t, plan, PlaceWorkers(t, 8));
  CHECK(team.partition.n_nodes() == 2);
  CHECK_FALSE(team.partition.binds_rows());
  for (const WorkerPlace& place : team.places) CHECK(place.cpu == -1);
}

}  // namespace
}  // namespace stoker
