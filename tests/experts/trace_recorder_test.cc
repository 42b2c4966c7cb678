// A run of the engine's own cache over a faulty fake disk, recorded, then replayed: the simulator
// must give the live counters and victims exactly, for every policy and for requests that stream.

#include "experts/trace_recorder.h"

#include <cstdlib>
#include <random>

#include "experts/expert_cache.h"
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

// 60 tokens, among them prefill chunks of up to all experts, one handle at a time, and guesses that
// are sometimes right.
void Run(ExpertCache& cache, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int64_t token = 0; token < 60; ++token) {
    const bool prefill = token % 20 == 0;
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<ExpertId> ids;
      std::vector<AccessContext> contexts;
      for (int32_t expert = 0; expert < kExperts; ++expert) {
        if (random() % kExperts >= (prefill ? 6U : 2U)) continue;
        ids.push_back({layer, expert});
        contexts.push_back({.layer = layer,
                            .token = token,
                            .gate_weight = 0.5F,
                            .phase = prefill ? Phase::kPrefill : Phase::kDecode});
      }
      std::vector<RouterChoice> routes;
      for (uint16_t i = 0; i < 3; ++i) {
        routes.push_back({static_cast<uint16_t>((random() % 2) * 3 + i), 0.5F / (1.0F + i)});
      }
      const std::vector<ExpertId> guess = {{(layer + 1) % kLayers, int32_t(random() % kExperts)}};
      cache.Expect(guess);
      cache.DescribeRequest({contexts, routes, 3, 1});
      cache.Request(ids);
      cache.Poll();
      for (size_t i = 0; i < ids.size(); ++i) {
        const ExpertHandle handle = cache.NextArriving();
        for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp, ExpertPart::kDown}) {
          for (int64_t have = 0; !handle.complete() && have < handle.view().up.rows();) {
            have = handle.WaitRows(part, have);
          }
        }
      }
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
      plan = PlanCache(*rig.store, *pager, plan.slot_bytes * n_slots, /*prefetch=*/true);
      plan.policy.seed = 42;

      const TraceHeader header =
          TraceHeaderFor(*rig.store, spec, plan.policy.capacity, plan.policy.seed);
      TraceRecorder recorder(rig.dir / "run.stk", header, 1, 3);
      CacheStats live;
      {
        ExpertCache cache(*rig.store, std::move(pager), MakePolicy(spec, plan.policy).policy, plan,
                          rig.team, &recorder, PrefetchMode::kOn);
        Run(cache, n_slots);
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
      const ReplayCounters total = report.Row(0, row).result.total;
      CHECK(total.miss_bytes == live.bytes_read);
      CHECK(total.prefetches == live.prefetch_used + live.prefetch_wasted);
      CHECK(total.wasted_bytes == live.prefetch_wasted_bytes);
      CHECK(trace[1].routes_per_token == 3);
    }
  }
}

}  // namespace
}  // namespace stoker
