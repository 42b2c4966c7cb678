#include "numa/placement_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "numa/bytes.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr int64_t kHidden = 6144;
constexpr int64_t kFfn = 9216;

// 4.5 bits a weight.
int64_t RowBytes(int64_t columns) { return columns * 9 / 16; }

// M1 at full size: dense weights, experts, state of one sequence, 16k tokens of KV.
PlanInput FullModel() {
  PlanInput input;
  const double experts_touched = 2.0 / 32;
  const auto add = [&](const char* name, int64_t rows, int64_t row_bytes, int64_t grain,
                       int64_t count, TensorPlacement placement = TensorPlacement::kRows,
                       double touched = 1.0, bool is_weight = true) {
    input.tensors.push_back({.name = name,
                             .rows = rows,
                             .row_bytes = row_bytes,
                             .row_grain = grain,
                             .count = count,
                             .placement = placement,
                             .touched_per_token = touched,
                             .is_weight = is_weight});
  };
  add("token_embd", 200064, kHidden * 2, 1, 1, TensorPlacement::kInterleaved, 1.0 / 200064);
  add("output", 200064, kHidden * 2, 16, 1);
  add("lightning qkv", 24576, RowBytes(kHidden), 384, 70);
  add("lightning gate", 8192, RowBytes(kHidden), 128, 70);
  add("lightning out", kHidden, RowBytes(8192), 16, 70);
  add("softmax q", 8192, RowBytes(kHidden), 1024, 10);
  add("softmax k, v", 1024, RowBytes(kHidden), 128, 20);
  add("softmax out", kHidden, RowBytes(8192), 16, 10);
  add("router", 32, kHidden * 4, 1, 80, TensorPlacement::kReplicated);
  add("norms", 2, kHidden * 4, 1, 80, TensorPlacement::kReplicated);
  add("expert gate, up", kFfn, RowBytes(kHidden), 16, 2 * 2560, TensorPlacement::kRows,
      experts_touched);
  add("expert down", kHidden, RowBytes(kFfn), 16, 2560, TensorPlacement::kRows, experts_touched);
  add("lightning state", 64, 128 * 128 * 4, 1, 70, TensorPlacement::kRows, 1.0, false);
  add("KV cache", 8, 16384 * 128 * 2 * 2, 1, 10, TensorPlacement::kRows, 1.0, false);
  // Per layer: attention output, two intermediates, two layer outputs, f32.
  input.exchanged_bytes_per_token = 80 * 4 * (8192 + 2 * kFfn + 2 * kHidden);
  return input;
}

uint64_t BytesOf(const PlannedTensor& t) {
  return static_cast<uint64_t>(t.rows) * static_cast<uint64_t>(t.row_bytes) *
         static_cast<uint64_t>(t.count);
}

bool IsNear(double a, double b) { return std::abs(a - b) < 1e-9; }

uint64_t Sum(const std::vector<uint64_t>& values) {
  return std::accumulate(values.begin(), values.end(), uint64_t{0});
}

// Every byte once (or once per copy), nothing beyond a node's capacity, cuts on grains.
void CheckComplete(const PlacementPlan& plan) {
  for (const PlacementPlan::TensorPlan& t : plan.tensors) {
    CAPTURE(t.tensor.name);
    const auto copies =
        static_cast<uint64_t>(std::count_if(t.bytes_per_node.begin(), t.bytes_per_node.end(),
                                            [](uint64_t bytes) { return bytes > 0; }));
    const bool is_copied = t.parts.empty() && plan.mode != NumaMode::kInterleave &&
                           t.tensor.placement == TensorPlacement::kReplicated;
    REQUIRE(Sum(t.bytes_per_node) == BytesOf(t.tensor) * (is_copied ? copies : 1));
    if (t.parts.empty()) continue;
    int64_t next_row = 0;
    std::vector<uint64_t> from_parts(plan.nodes.size(), 0);
    for (const PlannedPart& part : t.parts) {
      REQUIRE(part.row_begin == next_row);
      REQUIRE(part.row_end > part.row_begin);
      REQUIRE((part.row_end % t.tensor.row_grain == 0 || part.row_end == t.tensor.rows));
      next_row = part.row_end;
      from_parts[static_cast<size_t>(part.node)] +=
          static_cast<uint64_t>((part.row_end - part.row_begin) * t.tensor.row_bytes) *
          static_cast<uint64_t>(t.tensor.count);
    }
    REQUIRE(next_row == t.tensor.rows);
    REQUIRE(from_parts == t.bytes_per_node);
  }
  for (size_t i = 0; i < plan.nodes.size(); ++i) {
    const PlacementPlan::NodeShare& node = plan.nodes[i];
    uint64_t bytes = 0;
    for (const PlacementPlan::TensorPlan& t : plan.tensors) bytes += t.bytes_per_node[i];
    CHECK(bytes == node.weight_bytes + node.state_bytes);
    CHECK(bytes <= node.capacity_bytes);
    if (bytes > 0) CHECK_FALSE(node.computed_by.empty());
  }
}

struct Machine {
  const char* description;
  std::vector<double> bandwidth_gb;    // empty: not measured
  std::vector<uint64_t> capacity_gib;  // empty: as described
};

// Machines whose nodes with CPUs all have room for their share.
const Machine kRoomyMachines[] = {
    {"pack:1 [numa(memory=512GB)] core:32 pu:2", {}, {}},
    {"pack:1 [numa(memory=512GB)] l3:8 core:8 pu:2", {333}, {}},
    {"pack:2 [numa(memory=256GB)] l3:4 core:8 pu:2", {}, {}},
    {"pack:2 [numa(memory=256GB)] l3:4 core:8 pu:2", {200, 200}, {}},
    {"pack:2 [numa(memory=512GB)] core:16 pu:1", {200, 140}, {}},
    {"pack:2 [numa(memory=1024GB)] core:16 pu:1", {300, 100}, {}},
    {"node:3(memory=256GB) core:8 pu:1", {}, {}},
    {"node:3(memory=512GB) core:8 pu:1", {100, 150, 225}, {}},
    {"pack:1 numa:4(memory=128GB) l3:2 core:8 pu:2", {}, {}},
    {"pack:1 numa:4(memory=128GB) l3:2 core:8 pu:2", {83, 84, 82, 85}, {}},
    {"pack:4 [numa(memory=128GB)] core:18 pu:2", {}, {}},
    {"pack:4 [numa(memory=256GB)] core:18 pu:2", {100, 100, 60, 60}, {}},
    {"node:5(memory=128GB) core:4 pu:1", {50, 60, 70, 80, 90}, {}},
    {"node:6(memory=128GB) core:4 pu:1", {}, {}},
    {"node:7(memory=128GB) core:4 pu:2", {}, {}},
    {"pack:2 numa:4(memory=64GB) l3:2 core:8 pu:2", {}, {}},
    {"pack:2 numa:4(memory=128GB) l3:2 core:8 pu:2", {80, 80, 80, 80, 60, 60, 60, 60}, {}},
    {"pack:2 [numa(memory=256GB)] core:8 pu:1", {}, {400, 200}},
    // Far memory without CPUs: never used while the near nodes have room.
    {"[numa(memory=512GB)] pack:2 [numa(memory=256GB)] l3:4 core:8 pu:2", {}, {}},
    {"[numa(memory=512GB)] pack:2 [numa(memory=512GB)] core:8 pu:2", {200, 100, 0}, {}},
    {"pack:2 [numa(memory=256GB)] [numa(memory=64GB)] core:28 pu:2", {}, {}},
};

PlanInput InputFor(const Machine& machine) {
  PlanInput input = FullModel();
  for (const double gb : machine.bandwidth_gb) input.bandwidth.push_back(gb * 1e9);
  for (const uint64_t gib : machine.capacity_gib) input.capacity_bytes.push_back(gib * kGiB);
  return input;
}

TEST_CASE("shard: every byte once, by bandwidth, hardly anything across") {
  static_assert(std::size(kRoomyMachines) >= 20);
  for (const Machine& machine : kRoomyMachines) {
    CAPTURE(machine.description);
    PlanInput input = InputFor(machine);
    input.choice.mode = NumaMode::kShard;
    const PlacementPlan plan =
        PlacementPlan::Make(Topology::FromSynthetic(machine.description), input);
    CHECK(plan.mode == NumaMode::kShard);
    CheckComplete(plan);

    std::vector<double> rows(plan.nodes.size(), 0.0);
    double all = 0;
    for (const PlacementPlan::TensorPlan& t : plan.tensors) {
      if (t.tensor.placement != TensorPlacement::kRows) continue;
      all += static_cast<double>(BytesOf(t.tensor));
      for (size_t i = 0; i < rows.size(); ++i) {
        rows[i] += static_cast<double>(t.bytes_per_node[i]);
      }
      if (!t.tensor.is_weight) continue;
      // One matrix is computed by all nodes at once: its own balance counts. Heads are coarse.
      if (t.tensor.row_grain > 16) continue;
      for (size_t i = 0; i < rows.size(); ++i) {
        const double share =
            static_cast<double>(t.bytes_per_node[i]) / static_cast<double>(BytesOf(t.tensor));
        CHECK(std::abs(share - plan.nodes[i].bandwidth_share) <= 0.01);
      }
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      CHECK(std::abs(rows[i] / all - plan.nodes[i].bandwidth_share) <= 0.01);
    }
    CHECK(static_cast<double>(plan.cross_node_bytes_per_token) <=
          0.03 * static_cast<double>(plan.touched_bytes_per_token));
    // 25.8 GB of weights, state and cache beside them.
    CHECK(plan.touched_bytes_per_token > 25e9);
    CHECK(plan.touched_bytes_per_token < 30e9);
  }
}

TEST_CASE("the other modes are complete too") {
  for (const Machine& machine : kRoomyMachines) {
    CAPTURE(machine.description);
    const Topology t = Topology::FromSynthetic(machine.description);
    PlanInput input = InputFor(machine);
    input.choice.mode = NumaMode::kInterleave;
    try {
      const PlacementPlan plan = PlacementPlan::Make(t, input);
      CheckComplete(plan);
      if (t.nodes.size() > 1) {
        CHECK(plan.cross_node_bytes_per_token > plan.touched_bytes_per_token / 3);
      }
    } catch (const std::runtime_error& error) {
      // Equal stripes do not fit a small node.
      CHECK(std::string(error.what()).find("--numa") != std::string::npos);
    }
    input.choice.mode = NumaMode::kOff;
    const PlacementPlan off = PlacementPlan::Make(t, input);
    for (const PlacementPlan::TensorPlan& tensor : off.tensors) {
      CHECK(tensor.parts.empty());
      CHECK(Sum(tensor.bytes_per_node) == 0);
    }
    input.choice.mode = NumaMode::kAuto;
    const auto near = std::count_if(t.nodes.begin(), t.nodes.end(),
                                    [](const Topology::Node& node) { return !node.cores.empty(); });
    CHECK(PlacementPlan::Make(t, input).mode == (near > 1 ? NumaMode::kShard : NumaMode::kOff));
  }
}

TEST_CASE("everything on one node, when it fits") {
  const Topology t = Topology::FromSynthetic("pack:2 [numa(memory=512GB)] core:8 pu:1");
  PlanInput input = FullModel();
  input.choice = {.mode = NumaMode::kNode, .os_node = 1};
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CheckComplete(plan);
  CHECK(plan.nodes[0].weight_bytes == 0);
  CHECK(plan.cross_node_bytes_per_token == 0);
  input.choice.os_node = 2;
  CHECK_THROWS_AS(PlacementPlan::Make(t, input), std::runtime_error);
  const Topology small = Topology::FromSynthetic("pack:2 [numa(memory=64GB)] core:8 pu:1");
  input.choice.os_node = 0;
  CHECK_THROWS_AS(PlacementPlan::Make(small, input), std::runtime_error);
}

TEST_CASE("a node too small for its share passes the rest on") {
  const Topology t = Topology::FromSynthetic("node:3(memory=512GB) core:8 pu:1");
  PlanInput input = FullModel();
  input.choice.mode = NumaMode::kShard;
  input.capacity_bytes = {40 * kGiB, 200 * kGiB, 200 * kGiB};
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CheckComplete(plan);
  CHECK(plan.nodes[0].weight_bytes > 35 * kGiB);
  CHECK(IsNear(plan.nodes[1].row_share, plan.nodes[2].row_share));
}

TEST_CASE("far memory takes what near memory cannot hold, computed by the nearest node") {
  Topology t =
      Topology::FromSynthetic("[numa(memory=512GB)] pack:2 [numa(memory=64GB)] l3:4 core:8 pu:2");
  size_t far = 0;
  while (!t.nodes[far].cores.empty()) ++far;
  const size_t near = far == 0 ? 1 : 0;
  t.distances[far][near] = 14;
  PlanInput input = FullModel();
  input.choice.mode = NumaMode::kShard;
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CheckComplete(plan);
  CHECK(plan.nodes[far].bandwidth_share == 0);
  CHECK(plan.nodes[far].weight_bytes > 100 * kGiB);
  CHECK(plan.nodes[far].computed_by == std::vector<int>{static_cast<int>(near)});
  // What lies far is read from far: the plan says so.
  CHECK(plan.cross_node_bytes_per_token > plan.touched_bytes_per_token / 4);
}

TEST_CASE("a node without memory helps its nearest neighbour") {
  Topology t = Topology::FromSynthetic("node:4(memory=256GB) core:4 pu:1");
  t.nodes[3].memory_bytes = 0;
  t.distances[3] = {40, 12, 40, 10};
  PlanInput input = FullModel();
  input.choice.mode = NumaMode::kShard;
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CheckComplete(plan);
  CHECK(plan.nodes[3].weight_bytes == 0);
  CHECK(plan.nodes[1].computed_by == std::vector<int>{1, 3});
  CHECK(IsNear(plan.nodes[0].bandwidth_share, 1.0 / 3));
}

TEST_CASE("a forbidden node gets nothing") {
  Topology t = Topology::FromSynthetic("pack:2 [numa(memory=512GB)] core:4 pu:1");
  t.nodes[0].memory_allowed = false;
  PlanInput input = FullModel();
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CHECK(plan.mode == NumaMode::kOff);  // rows could only lie on one node
  input.choice.mode = NumaMode::kShard;
  const PlacementPlan forced = PlacementPlan::Make(t, input);
  CheckComplete(forced);
  CHECK(forced.nodes[0].weight_bytes == 0);
  CHECK(forced.nodes[1].computed_by == std::vector<int>{0, 1});
}

TEST_CASE("shares by hand replace the bandwidths of the nodes that compute") {
  Topology t = Topology::FromSynthetic("node:3(memory=512GB) core:8 pu:1");
  t.nodes[1].memory_allowed = false;
  PlanInput input = FullModel();
  input.choice = ParseNumaChoice("shard:3,1");
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CheckComplete(plan);
  CHECK(IsNear(plan.nodes[0].row_share, 0.75));
  CHECK(plan.nodes[1].weight_bytes == 0);
  input.choice = ParseNumaChoice("shard:1,1,1");
  CHECK_THROWS_AS(PlacementPlan::Make(t, input), std::runtime_error);
}

TEST_CASE("the router lies on the first node that computes") {
  const Topology t = Topology::FromSynthetic("node:2(memory=512GB) core:8 pu:1");
  PlanInput input = FullModel();
  for (PlannedTensor& tensor : input.tensors) {
    if (tensor.name == "router") tensor.placement = TensorPlacement::kFirst;
  }
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  CheckComplete(plan);
  for (const PlacementPlan::TensorPlan& tensor : plan.tensors) {
    if (tensor.tensor.name != "router") continue;
    CHECK(tensor.parts == std::vector<PlannedPart>{{.node = 0, .row_begin = 0, .row_end = 32}});
  }
}

TEST_CASE("a quota of cores shifts unmeasured shares") {
  Topology t = Topology::FromSynthetic("pack:2 [numa(memory=512GB)] core:4 pu:1");
  for (const int core : {1, 2, 3}) t.cores[static_cast<size_t>(core)].allowed_cpus.clear();
  PlanInput input = FullModel();
  input.choice.mode = NumaMode::kShard;
  CHECK(IsNear(PlacementPlan::Make(t, input).nodes[0].bandwidth_share, 0.2));
}

TEST_CASE("heads and their projections are cut together") {
  const Topology t = Topology::FromSynthetic("node:3(memory=512GB) core:4 pu:1");
  PlanInput input = FullModel();
  input.choice.mode = NumaMode::kShard;
  const PlacementPlan plan = PlacementPlan::Make(t, input);
  const auto find = [&](const std::string& name) {
    return std::find_if(plan.tensors.begin(), plan.tensors.end(),
                        [&](const PlacementPlan::TensorPlan& p) { return p.tensor.name == name; });
  };
  for (const auto& [state, weights, rows_per_head] :
       {std::tuple<const char*, const char*, int64_t>{"lightning state", "lightning qkv", 384},
        {"lightning state", "lightning gate", 128},
        {"KV cache", "softmax q", 1024},
        {"KV cache", "softmax k, v", 128}}) {
    CAPTURE(state, weights);
    const auto heads = find(state);
    const auto projection = find(weights);
    REQUIRE(heads->parts.size() == projection->parts.size());
    for (size_t i = 0; i < heads->parts.size(); ++i) {
      CHECK(projection->parts[i].row_begin == heads->parts[i].row_begin * rows_per_head);
      CHECK(projection->parts[i].row_end == heads->parts[i].row_end * rows_per_head);
    }
  }
}

TEST_CASE("what fits nowhere is refused with numbers") {
  const Topology t = Topology::FromSynthetic("pack:2 [numa(memory=64GB)] core:4 pu:1");
  for (const NumaMode mode : {NumaMode::kShard, NumaMode::kInterleave, NumaMode::kOff}) {
    PlanInput input = FullModel();
    input.choice.mode = mode;
    try {
      PlacementPlan::Make(t, input);
      FAIL("it fitted");
    } catch (const std::runtime_error& error) {
      CHECK(std::string(error.what()).find("GiB") != std::string::npos);
      CHECK(std::string(error.what()).find("--memory") != std::string::npos);
    }
  }
}

TEST_CASE("the same input gives the same plan, and it prints") {
  const Topology t = Topology::FromSynthetic("pack:2 [numa(memory=256GB)] core:4 pu:1");
  const PlanInput input = FullModel();
  const std::string text = PlacementPlan::Make(t, input).Format();
  CHECK(text == PlacementPlan::Make(t, input).Format());
  CHECK(text.find("numa: shard") == 0);
  CHECK(text.find("[0, 4608) @0 [4608, 9216) @1") != std::string::npos);
  CHECK(text.find("a copy on each node") != std::string::npos);
  CHECK(text.find("2 MiB stripes") != std::string::npos);
}

TEST_CASE("the --numa option") {
  CHECK(ParseNumaChoice("auto").mode == NumaMode::kAuto);
  CHECK(ParseNumaChoice("shard").mode == NumaMode::kShard);
  CHECK(ParseNumaChoice("interleave").mode == NumaMode::kInterleave);
  CHECK(ParseNumaChoice("off").mode == NumaMode::kOff);
  CHECK(ParseNumaChoice("node:12").os_node == 12);
  CHECK(ParseNumaChoice("virtual:3").virtual_nodes == 3);
  CHECK(ParseNumaChoice("shard:3,1.5").shares == std::vector<double>{3, 1.5});
  CHECK(ParseNumaChoice("virtual:3,1").virtual_nodes == 2);
  CHECK(ParseNumaChoice("virtual:3,1").shares == std::vector<double>{3, 1});
  for (const char* bad :
       {"", "node", "node:", "node:-1", "node:1x", "Shard", "on", "shard:", "shard:1,", "shard:0,1",
        "shard:-1,1", "shard:1;1", "shard:nan", "virtual:", "virtual:0", "virtual:-2"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(ParseNumaChoice(bad), std::runtime_error);
  }
}

}  // namespace
}  // namespace stoker
