// The simulator against hand calculation, Belady against exhaustive search, reuse distances against
// LRU itself, and the rendered reports.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <set>
#include <sstream>

#include "experts/simulator.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

TraceHeader SmallHeader(int32_t n_layers, int32_t n_experts, int32_t top_k) {
  TraceHeader header;
  header.n_layers = n_layers;
  header.n_experts = n_experts;
  header.top_k = top_k;
  header.model = "hand";
  header.expert_bytes.assign(n_layers, 1000);
  return header;
}

void Add(Trace* trace, int64_t token, int32_t layer, const std::vector<EntryId>& entries) {
  std::vector<TraceAccess> accesses;
  for (const EntryId entry : entries) accesses.push_back({.entry = entry});
  trace->Append({.layer = layer, .token = token, .accesses = accesses});
}

// The fewest misses over all choices of victims, by memory of states.
uint64_t FewestMisses(const Trace& trace, uint32_t capacity) {
  struct Step {
    std::set<EntryId> request;
    EntryId entry;
  };
  std::vector<Step> steps;
  for (size_t i = 0; i < trace.size(); ++i) {
    std::set<EntryId> request;
    for (const TraceAccess& access : trace[i].accesses) request.insert(access.entry);
    for (const TraceAccess& access : trace[i].accesses) steps.push_back({request, access.entry});
  }
  std::map<std::set<EntryId>, uint64_t> states = {{{}, 0}};
  for (const Step& step : steps) {
    std::map<std::set<EntryId>, uint64_t> next;
    const auto reach = [&](const std::set<EntryId>& state, uint64_t misses) {
      const auto [at, is_new] = next.emplace(state, misses);
      if (!is_new) at->second = std::min(at->second, misses);
    };
    for (const auto& [state, misses] : states) {
      if (state.count(step.entry) == 1) {
        reach(state, misses);
        continue;
      }
      std::set<EntryId> with = state;
      with.insert(step.entry);
      if (with.size() <= capacity) {
        reach(with, misses + 1);
        continue;
      }
      for (const EntryId victim : state) {
        if (step.request.count(victim) == 1) continue;
        std::set<EntryId> without = with;
        without.erase(victim);
        reach(without, misses + 1);
      }
    }
    states = std::move(next);
  }
  uint64_t best = UINT64_MAX;
  for (const auto& [state, misses] : states) best = std::min(best, misses);
  return best;
}

TEST_CASE("a belady that sees some tokens ahead lies between the two, and errs as it must") {
  // One layer of 4 experts, 2 slots.
  Trace trace;
  trace.header = SmallHeader(1, 4, 1);
  const std::vector<EntryId> uses = {0, 1, 2, 1, 0, 3, 0, 0};
  for (size_t i = 0; i < uses.size(); ++i) Add(&trace, static_cast<int64_t>(i), 0, {uses[i]});
  const auto misses = [&](int64_t passes) {
    return ReplayBelady(trace, 2, {}, passes).total.misses;
  };
  // Seeing all: 2 takes the place of 0, which comes back after 1: 0 1 2 0 3.
  CHECK(misses(0) == 5);
  // Seeing one token: at 2 the next is 1, so 0 goes; at 0 nothing of 1 and 2 is seen, and 2 is
  // rarer; at 3 the next is 0, so 1 goes.
  CHECK(misses(1) == 5);
  CHECK(misses(100) == misses(0));

  Trace longer;
  longer.header = SmallHeader(4, 16, 2);
  std::mt19937_64 random(5);
  for (int64_t token = 0; token < 400; ++token) {
    for (int32_t layer = 0; layer < 4; ++layer) {
      const EntryId first = layer * 16 + random() % 16;
      const EntryId second = layer * 16 + (first + 1 + random() % 15) % 16;
      Add(&longer, token, layer, {first, second});
    }
  }
  std::vector<uint64_t> by_passes;
  for (const int64_t passes : {1, 2, 4, 8, 400}) {
    by_passes.push_back(ReplayBelady(longer, 20, {}, passes).total.misses);
  }
  CAPTURE(by_passes);
  CHECK(std::is_sorted(by_passes.rbegin(), by_passes.rend()));
  CHECK(by_passes.front() > by_passes.back());
  CHECK(by_passes.back() == ReplayBelady(longer, 20, {}).total.misses);
  const auto lru = MakePolicy("lru", longer.header.MakeConfig(20)).policy;
  CHECK(by_passes.front() < Replay(longer, *lru, longer.header.MakeConfig(20), {}).total.misses);
}

TEST_CASE("belady's parameter is checked as those of policies") {
  Trace trace;
  trace.header = SmallHeader(1, 4, 1);
  Add(&trace, 0, 0, {1});
  for (const auto& [spec, why] : std::vector<std::pair<std::string, std::string>>{
           {"belady:passes=0", "passes=0 is not a whole number"},
           {"belady:passes", "is not key=value"},
           {"belady:steps=1", "unknown parameter 'steps'"}}) {
    CAPTURE(spec);
    SimulationOptions options;
    options.policies = {spec};
    options.capacities = {"2"};
    CHECK_THROWS_WITH(RunSimulation(trace, options), test::HasText(why));
  }
}

TEST_CASE("belady is as good as exhaustive search") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    Trace trace;
    trace.header = SmallHeader(3, 4, 2);
    for (int64_t token = 0; token < 8; ++token) {
      for (int32_t layer = 0; layer < 3; ++layer) {
        const EntryId first = layer * 4 + random() % 4;
        const EntryId second = layer * 4 + (first - layer * 4 + 1 + random() % 3) % 4;
        Add(&trace, token, layer, {first, second});
      }
    }
    for (const uint32_t capacity : {2U, 3U, 5U, 8U}) {
      CAPTURE(seed, capacity);
      const ReplayResult belady = ReplayBelady(trace, capacity, {});
      CHECK(belady.total.misses == FewestMisses(trace, capacity));
      for (const char* spec : {"lru", "least-stale", "forecast", "arc"}) {
        const PolicyConfig config = trace.header.MakeConfig(capacity);
        const auto policy = MakePolicy(spec, config).policy;
        CHECK(Replay(trace, *policy, config, {}).total.misses >= belady.total.misses);
      }
    }
  }
}

TEST_CASE("a replay gives the numbers of a hand calculation") {
  Trace trace;
  trace.header = SmallHeader(2, 4, 1);
  // Two slots, LRU. Entries 0..3 are of layer 0, 4..7 of layer 1.
  Add(&trace, 0, 0, {0});  // miss
  Add(&trace, 0, 1, {4});  // miss
  Add(&trace, 1, 0, {0});  // hit
  Add(&trace, 1, 1, {5});  // miss, evicts 4
  Add(&trace, 2, 0, {0});  // hit
  Add(&trace, 2, 1, {4});  // miss, evicts 5
  SimulationOptions options;
  options.policies = {"lru"};
  options.capacities = {"2", "50%", "2000"};
  const SimulationReport report = RunSimulation(trace, options);
  REQUIRE(report.policies == std::vector<std::string>{"lru", "belady"});
  const SimulationRow& lru = report.Row(0, 0);
  CHECK(lru.result.total.tokens == 3);
  CHECK(lru.result.total.hits == 2);
  CHECK(lru.result.total.misses == 4);
  CHECK(lru.result.total.miss_bytes == 4000);
  CHECK(lru.result.decode.bytes_per_token() == Approx(4000.0 / 3));
  CHECK(lru.capacity_bytes == 2000);
  CHECK(report.compulsory_misses == 3);
  CHECK(report.token_cycle == 2);
  CHECK(report.n_tokens == 3);
  CHECK(report.heat == std::vector<uint64_t>{3, 0, 0, 0, 2, 1, 0, 0});
  // With two slots the second use of 4 cannot be saved: 0 is in the way and more useful.
  CHECK(report.Row(0, 1).result.total.misses == 4);
  CHECK(lru.regret == Approx(0.0));
  CHECK(report.Row(1, 0).result.total.misses == 3);  // four slots: compulsory only
  CHECK(report.capacities[2] == 8);                  // more than there are
  CHECK(report.reuse.histogram[1] == 2);             // 0 after 4, 0 after 5
  CHECK(report.reuse.histogram[2] == 1);             // 4 after 0 and 5
  CHECK(report.reuse.first_uses == 3);
}

TEST_CASE("warm-up tokens are replayed but not counted") {
  Trace trace;
  trace.header = SmallHeader(1, 4, 1);
  for (int64_t token = 0; token < 10; ++token) Add(&trace, token, 0, {0});
  const PolicyConfig config = trace.header.MakeConfig(1);
  const auto policy = MakePolicy("lru", config).policy;
  const ReplayResult result = Replay(trace, *policy, config, {.skip_tokens = 4});
  CHECK(result.total.tokens == 6);
  CHECK(result.total.hits == 6);
  SimulationOptions options;
  options.capacities = {"1"};
  options.replay.skip_tokens = 9;
  CHECK(RunSimulation(trace, options).Row(0, 0).result.total.accesses == 1);
  options.replay.skip_tokens = 10;
  CHECK_THROWS_WITH(RunSimulation(trace, options), test::HasText("before token 10"));
}

TEST_CASE("reuse distances give the hit rate of LRU at every capacity") {
  SynthOptions synth;
  synth.n_layers = 6;
  synth.n_experts = 8;
  synth.top_k = 1;  // experts pinned together may outstay their turn
  synth.decode_tokens = 400;
  const Trace trace = TraceFromSynth(synth);
  const ReuseDistances reuse = ComputeReuseDistances(trace);
  uint64_t hits = 0;
  for (uint32_t capacity = 1; capacity <= 48; ++capacity) {
    hits += reuse.histogram[capacity - 1];
    const PolicyConfig config = trace.header.MakeConfig(capacity);
    const auto policy = MakePolicy("lru", config).policy;
    CAPTURE(capacity);
    CHECK(Replay(trace, *policy, config, {}).total.hits == hits);
  }
  CHECK(hits + reuse.first_uses == trace.n_accesses());
}

TEST_CASE("a request with more experts than slots streams") {
  Trace trace;
  trace.header = SmallHeader(1, 8, 2);
  Add(&trace, 0, 0, {0, 1});
  Add(&trace, 1, 0, {2, 3, 0, 4, 1, 5});  // two slots; 0 and 1 hit
  Add(&trace, 2, 0, {1, 5});
  for (const PolicyInfo& info : ListPolicies()) {
    if (info.name == "static") continue;
    CAPTURE(info.name);
    const PolicyConfig config = trace.header.MakeConfig(2);
    const auto policy = MakePolicy(info.name, config).policy;
    const ReplayResult result = Replay(trace, *policy, config, {});
    CHECK(result.total.hits >= 2);
    CHECK(result.total.misses >= 6);
  }
}

TEST_CASE("no policy has fewer misses than belady where requests stream") {
  // Two slots: 1 and 2 are hits, since they are there when the request is announced.
  Trace trace;
  trace.header = SmallHeader(1, 4, 2);
  Add(&trace, 0, 0, {1, 2});
  Add(&trace, 1, 0, {0, 1, 2});
  CHECK(ReplayBelady(trace, 2, {}).total.hits == 2);
  SimulationOptions options;
  options.policies = {"lru"};
  options.capacities = {"2"};
  CHECK(RunSimulation(trace, options).Row(0, 0).regret >= 0.0);

  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    Trace mixed;
    mixed.header = SmallHeader(2, 6, 2);
    for (int64_t token = 0; token < 12; ++token) {
      for (int32_t layer = 0; layer < 2; ++layer) {
        std::vector<EntryId> entries(6);
        std::iota(entries.begin(), entries.end(), static_cast<EntryId>(6 * layer));
        std::shuffle(entries.begin(), entries.end(), random);
        entries.resize(1 + random() % 6);
        Add(&mixed, token, layer, entries);
      }
    }
    for (const uint32_t capacity : {1U, 2U, 4U, 7U}) {
      const uint64_t best = ReplayBelady(mixed, capacity, {}).total.misses;
      const PolicyConfig config = mixed.header.MakeConfig(capacity);
      for (const PolicyInfo& info : ListPolicies()) {
        if (info.name == "static") continue;
        CAPTURE(seed, capacity, info.name);
        const auto policy = MakePolicy(info.name, config).policy;
        CHECK(Replay(mixed, *policy, config, {}).total.misses >= best);
      }
    }
  }
}

TEST_CASE("the gap is of bytes missed, whatever was read ahead for nothing") {
  // Two slots, where lfu misses as rarely as belady does.
  Trace trace;
  trace.header = SmallHeader(1, 4, 1);
  trace.header.policy = "lfu";
  trace.header.capacity = 2;
  const TraceAccess wrong[] = {{.entry = 3, .bytes = 300, .outcome = AccessOutcome::kMiss}};
  trace.Append({.kind = TraceKind::kPrefetch, .accesses = wrong});
  const std::vector<EntryId> uses = {0, 0, 0, 1, 2, 0, 1, 2, 0};
  for (size_t i = 0; i < uses.size(); ++i) Add(&trace, static_cast<int64_t>(i), 0, {uses[i]});
  const SimulationReport report = ReplayAsRecorded(trace);
  REQUIRE(report.policies == std::vector<std::string>{"lru", "lfu", "belady"});
  CHECK(report.Row(0, 0).result.total.misses == 7);
  CHECK(report.Row(0, 1).result.total.misses == 5);
  CHECK(report.Row(0, 2).result.total.misses == 5);
  CHECK(report.Row(0, 1).result.total.wasted_bytes == 300);
  CHECK(report.Row(0, 1).gap_closed == Approx(1.0));
}

TEST_CASE("a trace cannot choose a file to be read") {
  Trace trace;
  trace.header = SmallHeader(1, 4, 1);
  trace.header.capacity = 2;
  Add(&trace, 0, 0, {0});
  for (const char* policy : {"./x.so", "/tmp/x.so:a=1", "static:from=/dev/zero"}) {
    trace.header.policy = policy;
    CHECK_THROWS_WITH(ReplayAsRecorded(trace), test::HasText("--policy POLICY --capacity 2"));
  }
}

TEST_CASE("prefetch and protection of a recorded run are replayed on demand") {
  Trace trace;
  trace.header = SmallHeader(2, 4, 1);
  Add(&trace, 0, 0, {0});
  const TraceAccess ahead[] = {
      {.entry = 4, .bytes = 300, .outcome = AccessOutcome::kHitPrefetched}};
  const TraceAccess wrong[] = {{.entry = 5, .bytes = 200, .outcome = AccessOutcome::kMiss}};
  trace.Append({.kind = TraceKind::kPrefetch, .layer = 1, .token = 0, .accesses = ahead});
  trace.Append({.kind = TraceKind::kPrefetch, .layer = 1, .token = 0, .accesses = wrong});
  Add(&trace, 0, 1, {4});
  const TraceAccess soon[] = {{.entry = 0}};
  trace.Append({.kind = TraceKind::kProtect, .layer = 0, .token = 1, .accesses = soon});
  Add(&trace, 1, 1, {5});  // LRU would give up 0
  Add(&trace, 2, 0, {0});
  const PolicyConfig config = trace.header.MakeConfig(2);
  const auto with = MakePolicy("lru", config).policy;
  const ReplayResult result = Replay(trace, *with, config, {.speculation = true});
  CHECK(result.total.hits == 1);
  CHECK(result.total.misses == 3);
  CHECK(result.total.prefetches == 2);
  CHECK(result.total.wasted_bytes == 200);
  const auto without = MakePolicy("lru", config).policy;
  CHECK(Replay(trace, *without, config, {}).total.hits == 0);
}

TEST_CASE("capacities in all three units") {
  const TraceHeader header = SmallHeader(10, 10, 1);
  CHECK(ParseCapacity("7", header) == 7);
  CHECK(ParseCapacity("12.5%", header) == 12);
  CHECK(ParseCapacity("10KiB", header) == 10);  // 10240 / 1000
  CHECK(ParseCapacity("1GiB", header) == 100);
  for (const char* bad : {"", "0", "-1", "1.5", "101%", "x", "5 %%", "nan", "0.1%", "10B"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(ParseCapacity(bad, header), std::runtime_error);
  }
}

TEST_CASE("reports render in every form") {
  SynthOptions synth;
  synth.n_layers = 4;
  synth.n_experts = 8;
  synth.decode_tokens = 50;
  SimulationOptions options;
  options.policies = {"auto", "slru:protected=0.5"};
  options.capacities = {"4", "50%"};
  const SimulationReport report = RunSimulation(TraceFromSynth(synth), options);
  std::ostringstream table, csv, json;
  WriteTable(report, table);
  CHECK_THAT(table.str(), test::HasText("auto (forecast)") && test::HasText("belady") &&
                              test::HasText("one token cycle: 8 experts (25.0 %)") &&
                              test::HasText("warning: expert cache of 4 experts"));
  WriteCsv(report, csv);
  const std::string text = csv.str();
  CHECK(std::count(text.begin(), text.end(), '\n') == 1 + 2 * 4);
  WriteJson(report, json);
  const auto parsed = nlohmann::json::parse(json.str());
  CHECK(parsed["rows"].size() == 8);
  CHECK(parsed["rows"][3]["policy"] == "belady");
  CHECK(parsed["rows"][0]["total"]["misses"] == report.Row(0, 0).result.total.misses);
  const test::TempDir dir;
  WriteSvg(report, dir / "plots");
  for (const char* name : {"hit_rate", "bytes_per_token", "heat_map", "reuse_distance"}) {
    const std::string svg = test::ReadFile(dir.path() / "plots" / (std::string(name) + ".svg"));
    CHECK_THAT(svg, Catch::Matchers::StartsWith("<svg") && Catch::Matchers::EndsWith("</svg>\n"));
    CHECK(svg.find("nan") == std::string::npos);
  }
}

TEST_CASE("a curve of one point shows, and no two curves look alike") {
  SimulationOptions options;
  for (int half_life = 1; half_life <= 17; ++half_life) {
    options.policies.push_back("lfu:half_life=" + std::to_string(half_life));
  }
  options.capacities = {"4"};
  const test::TempDir dir;
  const SimulationReport report =
      RunSimulation(TraceFromSynth({.n_layers = 2, .n_experts = 8, .decode_tokens = 4}), options);
  WriteSvg(report, dir.path());
  const std::string svg = test::ReadFile(dir / "hit_rate.svg");
  std::set<std::string> looks;
  size_t n_points = 0;
  for (size_t at = svg.find("<polyline"); at != svg.npos; at = svg.find("<polyline", at + 1)) {
    looks.insert(svg.substr(at, svg.find(" points=", at) - at));
  }
  for (size_t at = svg.find("<circle"); at != svg.npos; at = svg.find("<circle", at + 1)) {
    ++n_points;
  }
  CHECK(report.policies.size() == 20);  // with auto, lru and belady
  CHECK(looks.size() == report.policies.size());
  CHECK(n_points == report.policies.size());
}

TEST_CASE("names of any length leave the table whole") {
  Trace trace;
  trace.header = SmallHeader(1, 4, 1);
  trace.header.model = std::string(600, 'm');
  Add(&trace, 0, 0, {0});
  const test::TempDir dir;
  test::WriteFile(dir / "hot.txt", "0 0 1\n");
  const std::string spec = "static:from=" + std::string(400, '/') + (dir / "hot.txt").string();
  SimulationOptions options;
  options.policies = {spec};
  options.capacities = {"2"};
  std::ostringstream out;
  WriteTable(RunSimulation(trace, options), out);
  CHECK_THAT(out.str(), test::HasText(trace.header.model + ", 1 layers x 4 experts, top-1; 1 "
                                                           "tokens, 1 accesses\n"));
  CHECK_THAT(out.str(), test::HasText(spec + "     0.00"));
}

}  // namespace
}  // namespace stoker
