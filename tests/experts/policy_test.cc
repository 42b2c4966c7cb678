// What holds for every policy (invariants under random requests), the factory and its errors, and
// plug-ins with their guard.

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <set>

#include "experts/cache_policy.h"
#include "tests/experts/policy_driver.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

using test::PolicyDriver;
using test::SmallConfig;

std::vector<std::string> AllSpecs(const test::TempDir& dir) {
  test::WriteFile(dir / "hot.txt", "0 0 3\n1 1 2\n");
  std::vector<std::string> specs;
  for (const PolicyInfo& info : ListPolicies()) {
    std::string spec(info.name);
    if (spec == "static") {
      specs.push_back(spec + ":from=" + (dir / "hot.txt").string());
      continue;
    }
    specs.push_back(spec);
    specs.push_back(spec + ":scope=layer");
  }
  specs.push_back(std::string(std::getenv("STOKER_TEST_PLUGIN_MRU")) + ":skip=1");
  return specs;
}

// Requests of several experts of one layer, with prefetches between them, everything pinned as the
// protocol says. Fails when a victim is not resident, pinned, or missing though there is one, or
// when asking twice gives two answers.
void Torture(const std::string& spec, PolicyConfig config, uint64_t seed) {
  CAPTURE(spec, config.capacity, seed);
  config.on_fault = [](std::string_view message) { FAIL(message); };
  const auto policy = MakePolicy(spec, config).policy;
  std::mt19937_64 random(seed);
  std::set<EntryId> resident;
  std::vector<uint8_t> pinned(config.n_entries(), 0);
  const auto make_room = [&](EntryId incoming) {
    if (resident.size() < config.capacity) return true;
    const EntryId victim = policy->Victim(incoming, pinned);
    if (victim == kNoEntry) {
      for (const EntryId entry : resident) REQUIRE(pinned[entry] != 0);
      return false;
    }
    REQUIRE(resident.count(victim) == 1);
    REQUIRE(pinned[victim] == 0);
    REQUIRE(policy->Victim(incoming, pinned) == victim);
    policy->OnErase(victim);
    resident.erase(victim);
    return true;
  };
  for (int64_t step = 0; step < 400; ++step) {
    const auto layer = static_cast<int32_t>(step % config.n_layers);
    std::set<EntryId> request;
    while (request.size() < 1 + static_cast<size_t>(step) % 4) {
      request.insert(config.Entry({layer, static_cast<int32_t>(random() % config.n_experts)}));
    }
    std::fill(pinned.begin(), pinned.end(), 0);
    for (const EntryId entry : request) pinned[entry] = 1;
    if (random() % 3 == 0) {
      const RouterChoice choices[] = {{1, 0.5F}, {0, 0.3F}, {2, 0.0F}};
      policy->OnRouterHint(layer, choices);
    }
    for (const EntryId entry : request) {
      const bool hit = resident.count(entry) == 1;
      policy->OnAccess(entry, hit,
                       {.layer = layer,
                        .token = step / config.n_layers,
                        .gate_weight = static_cast<float>(random() % 100) / 100.0F,
                        .phase = step < 40 ? Phase::kPrefill : Phase::kDecode});
      if (hit || !make_room(entry)) continue;
      policy->OnInsert(entry);
      resident.insert(entry);
      REQUIRE(resident.size() <= config.capacity);
    }
    const auto ahead = static_cast<EntryId>(random() % config.n_entries());
    if (random() % 4 == 0 && resident.count(ahead) == 0 && make_room(ahead)) {
      policy->OnInsert(ahead);
      resident.insert(ahead);
    }
    // The cache may drop an entry on its own (a failed read).
    if (random() % 16 == 0 && !resident.empty()) {
      const EntryId dropped = *resident.begin();
      policy->OnErase(dropped);
      resident.erase(dropped);
    }
  }
}

TEST_CASE("every policy names a resident, unpinned victim whenever there is one") {
  const test::TempDir dir;
  for (const std::string& spec : AllSpecs(dir)) {
    for (const uint32_t capacity : {1U, 2U, 5U, 13U, 32U}) {
      Torture(spec, SmallConfig(capacity, 4, 8), 1000 + capacity);
    }
  }
}

TEST_CASE("the factory names what it does not know, the nearest, and everything it has") {
  const PolicyConfig config = SmallConfig(4);
  CHECK_THROWS_WITH(MakePolicy("lruu", config),
                    test::HasText("'lruu'; did you mean 'lru'?") && test::HasText("forecast"));
  CHECK_THROWS_WITH(MakePolicy("lfu:halflife=3", config),
                    test::HasText("did you mean 'half_life'?") && test::HasText("scope"));
  CHECK_THROWS_WITH(MakePolicy("lfu:half_life=0", config), test::HasText("0.5 .. 1e+09"));
  CHECK_THROWS_WITH(MakePolicy("lfu:half_life=nan", config), test::HasText("half_life=nan"));
  CHECK_THROWS_WITH(MakePolicy("lfu:half_life=8x", config), test::HasText("8x"));
  CHECK_THROWS_WITH(MakePolicy("lfu:half_life", config), test::HasText("not key=value"));
  CHECK_THROWS_WITH(MakePolicy("slru:protected=0.5,protected=1", config), test::HasText("twice"));
  CHECK_THROWS_WITH(MakePolicy("lru:scope=node", config), test::HasText("global nor layer"));
  CHECK_THROWS_WITH(MakePolicy("static:from=x,scope=layer", config), test::HasText("global"));
  CHECK_THROWS_WITH(MakePolicy("", config), test::HasText("unknown policy"));
}

TEST_CASE("a list of specs is split where one ends, not within") {
  using Specs = std::vector<std::string>;
  CHECK(SplitPolicySpecs("lru") == Specs{"lru"});
  CHECK(SplitPolicySpecs("2q:in=0.25,out=0.5") == Specs{"2q:in=0.25,out=0.5"});
  CHECK(SplitPolicySpecs("lru,lfu:half_life=9,scope=layer,arc") ==
        Specs{"lru", "lfu:half_life=9,scope=layer", "arc"});
  CHECK(SplitPolicySpecs("./mine.so:skip=4,./b=c.so,belady:passes=2") ==
        Specs{"./mine.so:skip=4", "./b=c.so", "belady:passes=2"});
  CHECK(SplitPolicySpecs("static:scope=global,from=/a:b/c,lru") ==
        Specs{"static:scope=global,from=/a:b/c", "lru"});
  CHECK(SplitPolicySpecs("") == Specs{""});
  CHECK(SplitPolicySpecs("lru,,arc,") == Specs{"lru", "", "arc", ""});
  CHECK(SplitPolicySpecs("out=0.5,lru") == Specs{"out=0.5", "lru"});
}

TEST_CASE("the layers of forecast share one limit on memory") {
  const auto resident_bytes = [] {
    int64_t all_pages = 0;
    int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> all_pages >> pages;
    return pages * ::sysconf(_SC_PAGESIZE);
  };
  // Pairs of two layers would take 128 MiB, of one just the 64 MiB that are allowed.
  const int64_t before = resident_bytes();
  const PolicyChoice choice = MakePolicy("forecast:scope=layer", SmallConfig(64, 2, 4096));
  CHECK(resident_bytes() - before < int64_t{32} << 20);
}

TEST_CASE("auto says what runs, and warns with numbers below one token cycle") {
  PolicyConfig config = SmallConfig(16, 4, 16);
  config.top_k = 2;
  PolicyChoice choice = MakePolicy("auto", config);
  CHECK(choice.spec == "forecast");
  CHECK(choice.warning.empty());
  config.capacity = 4;
  choice = MakePolicy("auto", config);
  CHECK_THAT(choice.warning, test::HasText("4 experts") && test::HasText("cycle of 8") &&
                                 test::HasText("at least 50 %"));
  CHECK_THAT(MakePolicy("lru", config).warning, test::HasText("all of them"));
  config.capacity = 64;
  CHECK(MakePolicy("auto", config).spec == "lru");
  CHECK(MakePolicy("auto:scope=layer", config).spec == "lru:scope=layer");
}

TEST_CASE("a plug-in is an ordinary policy") {
  const std::string path = std::getenv("STOKER_TEST_PLUGIN_MRU");
  PolicyDriver cache(path, SmallConfig(3));
  cache.UseAll({0, 1, 2});
  CHECK(cache.Use(3) == 2);
  CHECK(cache.Use(4) == 3);
  CHECK_THROWS_WITH(MakePolicy(path + ":skp=1", SmallConfig(3)),
                    test::HasText("unknown parameter skp"));
  for (const char* bad : {"skip=-1", "skip=abc", "skip=", "skip=4x", "skip=99999999999999999999"}) {
    CHECK_THROWS_WITH(MakePolicy(path + ":" + bad, SmallConfig(3)), test::HasText(bad));
  }
  CHECK_THROWS_WITH(MakePolicy("./no_such_policy.so", SmallConfig(3)),
                    test::HasText("no_such_policy.so"));
}

TEST_CASE("a plug-in that names a bad victim is put aside, once and in words") {
  const std::string path = std::getenv("STOKER_TEST_PLUGIN_BAD");
  for (const char* mode : {"range", "pinned", "absent", "none"}) {
    CAPTURE(mode);
    PolicyConfig config = SmallConfig(3);
    std::vector<std::string> messages;
    config.on_fault = [&](std::string_view message) { messages.emplace_back(message); };
    PolicyDriver cache(path + ":mode=" + mode, config);
    cache.Pin(0, true);
    cache.UseAll({0, 1, 2, 1});
    CHECK(cache.Use(3) == 2);  // LRU, pinned 0 passed over
    CHECK(cache.Use(4) == 1);
    REQUIRE(messages.size() == 1);
    CHECK_THAT(messages[0], test::HasText("lru goes on"));
    const bool named_none = messages[0].find("named no victim though one is") != std::string::npos;
    CHECK(named_none == (mode == std::string("none")));
  }
  CHECK_THROWS_WITH(MakePolicy(path + ":mode=refuse", SmallConfig(3)),
                    test::HasText("refused the configuration"));
}

}  // namespace
}  // namespace stoker
