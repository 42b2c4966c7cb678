// How the shipped policies do on held-out synthetic traces: the promise of docs/policies.md on a
// smaller model, so that a change that spoils it is seen. Seeds from 101 on were never used to
// choose a parameter.

#include "experts/simulator.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

SynthOptions Kind(const char* name, uint64_t seed) {
  SynthOptions o{.n_layers = 24, .decode_tokens = 600, .seed = seed};
  const std::string kind = name;
  if (kind == "zipf") o.zipf = 0.8, o.locality = 0.0;
  if (kind == "local") o.zipf = 0.4, o.locality = 0.6;
  if (kind == "phases") o.zipf = 0.6, o.locality = 0.3, o.phase_tokens = 200;
  if (kind == "balanced") o.zipf = 0.0, o.locality = 0.3;
  if (kind == "chat") {
    o.zipf = 0.8, o.locality = 0.4, o.phase_tokens = 400, o.phase_strength = 0.7;
    o.prompt_tokens = 512;
  }
  return o;
}

TEST_CASE("auto is never worse than LRU by a point, and closes 30 % of the gap on chat") {
  for (const char* kind : {"zipf", "local", "phases", "balanced", "chat"}) {
    for (const uint64_t seed : {101, 102}) {
      SimulationOptions options;
      options.policies = {"auto"};
      options.capacities = {"5%", "10%", "25%", "43%", "75%"};
      const SimulationReport report = RunSimulation(TraceFromSynth(Kind(kind, seed)), options);
      for (size_t c = 0; c < report.capacities.size(); ++c) {
        const SimulationRow& lru = report.Row(c, 0);
        const SimulationRow& mine = report.Row(c, 1);
        CAPTURE(kind, seed, mine.capacity, lru.result.total.hit_rate(), mine.gap_closed);
        CHECK(mine.result.total.hit_rate() > lru.result.total.hit_rate() - 0.01);
        CHECK(mine.regret >= 0.0);
        if (std::string(kind) == "chat") CHECK(mine.gap_closed > 0.30);
      }
    }
  }
}

}  // namespace
}  // namespace stoker
