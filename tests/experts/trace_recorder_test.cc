// A run of the engine's own cache over a faulty fake disk, recorded, then replayed: the simulator
// must give the live counters and victims exactly, for every policy and for requests that stream.

#include "experts/trace_recorder.h"

#include <cstdlib>
#include <random>

#include "experts/simulator.h"
#include "tests/support/catch.h"
#include "tests/support/expert_model.h"
#include "tests/support/fake_pager.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

constexpr int kLayers = 4;
constexpr int kExperts = 8;

struct Rig {
  Rig() {
    testing::WriteExpertModel(dir / "model.gguf", {.n_layers = kLayers, .n_experts = kExperts});
    store = WeightStore::Open(dir / "model.gguf");
  }
  const test::TempDir dir;
  std::unique_ptr<WeightStore> store;
  ThreadTeam team{1, false};
};

// 60 tokens, among them prefill chunks of up to all experts, one handle at a time.
void Run(ExpertCache& cache, TraceRecorder& recorder, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int64_t token = 0; token < 60; ++token) {
    const bool prefill = token % 20 == 0;
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<ExpertId> ids;
      std::vector<AccessContext> contexts;
      std::vector<RouterChoice> choices;
      for (int32_t expert = 0; expert < kExperts; ++expert) {
        if (random() % kExperts >= (prefill ? 6U : 2U)) continue;
        ids.push_back({layer, expert});
        contexts.push_back({.layer = layer,
                            .token = token,
                            .gate_weight = 0.5F,
                            .phase = prefill ? Phase::kPrefill : Phase::kDecode});
      }
      cache.DescribeRequest(contexts);
      recorder.DescribeRouting(layer, token, 1, prefill ? Phase::kPrefill : Phase::kDecode,
                               choices);
      cache.Request(ids);
      for (size_t i = 0; i < ids.size(); ++i) cache.Next();
    }
  }
}

TEST_CASE("replaying a recorded run gives the live counters exactly") {
  Rig rig;
  for (const char* spec : {"lru", "forecast", "arc", "s3fifo", "least-stale", "random",
                           "sieve:scope=layer", "wtinylfu:window=0.3", "auto"}) {
    for (const uint32_t n_slots : {3U, 7U, 20U}) {
      CAPTURE(spec, n_slots);
      const std::vector<PagerFile> files = PagerFiles(*rig.store);
      auto pager = std::make_unique<testing::FakePager>(
          files, testing::FakeDevice{.seed = n_slots, .short_rate = 0.1, .transient_rate = 0.1},
          PagerOptions{.piece_bytes = 65536});
      CachePlan plan = PlanCache(*rig.store, *pager, UINT64_MAX);
      plan = PlanCache(*rig.store, *pager, plan.slot_bytes * n_slots);
      plan.policy.seed = 42;

      TraceHeader header;
      header.n_layers = kLayers;
      header.n_experts = kExperts;
      header.top_k = plan.policy.top_k;
      header.capacity = plan.policy.capacity;
      header.seed = plan.policy.seed;
      header.policy = spec;
      for (const float cost : plan.policy.layer_cost) {
        header.expert_bytes.push_back(static_cast<uint64_t>(cost));
      }
      if (header.expert_bytes.empty()) header.expert_bytes.assign(kLayers, plan.slot_bytes);
      TraceRecorder recorder(rig.dir / "run.stk", header, 1, 0);
      CacheStats live;
      {
        ExpertCache cache(*rig.store, std::move(pager), MakePolicy(spec, plan.policy).policy, plan,
                          rig.team, &recorder);
        Run(cache, recorder, n_slots);
        cache.Request({});
        live = cache.stats();
      }
      recorder.Close();

      const Trace trace = LoadTrace(rig.dir / "run.stk");
      CHECK(trace.complete);
      const SimulationReport report = ReplayAsRecorded(trace);
      const size_t row = report.policies[0] == spec ? 0 : 1;
      CHECK(report.Row(0, row).result.total.hits == live.hits);
      CHECK(report.Row(0, row).result.total.misses == live.misses);
      CHECK(report.live_hits == live.hits);
      CHECK(report.live_misses == live.misses);
    }
  }
}

}  // namespace
}  // namespace stoker
