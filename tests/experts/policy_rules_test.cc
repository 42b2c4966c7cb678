// Each policy's rule on accesses worked out by hand. a..f are entries 0..5 of one layer, one access
// per pass, unless a test says otherwise.

#include <fstream>

#include "tests/experts/policy_driver.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

using test::PolicyDriver;
using test::SmallConfig;

constexpr EntryId a = 0, b = 1, c = 2, d = 3, e = 4, f = 5;

TEST_CASE("lru evicts the least recently used") {
  PolicyDriver cache("lru", SmallConfig(3));
  cache.UseAll({a, b, c, a});
  CHECK(cache.Use(d) == b);
  CHECK(cache.Use(e) == c);
  cache.Pin(a, true);
  CHECK(cache.Use(f) == d);
}

TEST_CASE("lru hits nothing on a cycle one longer than itself") {
  PolicyDriver cache("lru", SmallConfig(3));
  cache.UseAll({a, b, c});
  for (const EntryId entry : {d, a, b, c, d, a, b, c}) CHECK(cache.Use(entry) != kNoEntry);
}

TEST_CASE("lfu evicts the least used, and forgets at the stated rate") {
  PolicyDriver slow("lfu:half_life=1e9", SmallConfig(2));
  slow.UseAll({a, a, a, b, b});
  CHECK(slow.Use(c) == b);  // 3 uses against 2
  PolicyDriver fast("lfu:half_life=1", SmallConfig(2));
  fast.UseAll({a, a, a, b, b});
  CHECK(fast.Use(c) == a);  // 1.75 uses two half-lives ago against 1.5
}

TEST_CASE("lfu counts outlive eviction") {
  PolicyDriver cache("lfu:half_life=1e9", SmallConfig(2));
  cache.UseAll({a, a, b, b, b, c});
  REQUIRE(!cache.Has(a));
  CHECK(cache.Use(a) == c);
}

TEST_CASE("lfru takes the fewest uses among the unprivileged") {
  PolicyDriver cache("lfru:privileged=0.34", SmallConfig(3));  // one privileged
  cache.UseAll({a, b, c, a, b});  // b is privileged, a was demoted with two uses
  CHECK(cache.Use(d) == c);
  CHECK(cache.Use(e) == d);
  CHECK(cache.Has(a));
}

TEST_CASE("slru protects what was hit and demotes what overflows") {
  PolicyDriver cache("slru:protected=0.5", SmallConfig(4));  // two protected
  cache.UseAll({a, b, c, d, a, b, c});                       // protected c b; probation a d
  CHECK(cache.Use(e) == d);
  CHECK(cache.Use(f) == a);
}

TEST_CASE("2q keeps what comes back after it left the filter") {
  PolicyDriver cache("2q:in=0.25,out=0.5", SmallConfig(4));
  cache.UseAll({a, b, c, d});
  CHECK(cache.Use(e) == a);
  CHECK(cache.Use(a) == b);  // remembered: a enters Am
  CHECK(cache.Use(f) == c);
  CHECK(cache.Use(6) == d);
  CHECK(cache.Use(7) == e);
  CHECK(cache.Has(a));
}

TEST_CASE("arc grows the side whose ghost was hit") {
  PolicyDriver cache("arc", SmallConfig(2));
  cache.UseAll({a, b, a});   // T1 = b, T2 = a
  CHECK(cache.Use(c) == b);  // T1 above its target of 0
  CHECK(cache.Use(b) == a);  // found in B1: the target rises to 1, so T2 gives
  CHECK(cache.Has(c));
}

TEST_CASE("clock gives a second chance") {
  PolicyDriver cache("clock", SmallConfig(3));
  cache.UseAll({a, b, c, a});
  CHECK(cache.Use(d) == b);
  CHECK(cache.Use(e) == c);
  CHECK(cache.Use(f) == a);  // its chance is used up
}

TEST_CASE("sieve leaves survivors where they are and goes on from the hand") {
  PolicyDriver cache("sieve", SmallConfig(3));
  cache.UseAll({a, b, c, a});
  CHECK(cache.Use(d) == b);
  CHECK(cache.Use(e) == c);
  CHECK(cache.Use(f) == d);  // the hand is past a
  CHECK(cache.Has(a));
}

TEST_CASE("s3fifo moves what was used twice to main and lets the rest pass") {
  PolicyDriver cache("s3fifo:small=0.25", SmallConfig(4));
  cache.UseAll({a, b, c, d, a, a});
  CHECK(cache.Use(e) == b);
  CHECK(cache.Use(b) == c);  // b was a ghost: it enters main
  CHECK(cache.Use(f) == d);
  CHECK(cache.Use(6) == e);
  CHECK(cache.Has(a));
  CHECK(cache.Has(b));
}

TEST_CASE("wtinylfu lets the rarer one of window and main leave") {
  PolicyDriver cache("wtinylfu:window=0.25", SmallConfig(4));
  cache.UseAll({a, a, a, b, b, c, c, d});  // window d; probation a b c
  CHECK(cache.Use(e) == d);                // 1 use against a's 3
  cache.UseAll({e, e, e});
  CHECK(cache.Use(f) == a);  // 4 uses against a's 3
}

// A request of two experts, neither of which can be given up for the other.
void UseTogether(PolicyDriver& cache, EntryId x, EntryId y) {
  for (const EntryId entry : {x, y}) cache.Pin(entry, true);
  cache.UseAll({x, y});
  for (const EntryId entry : {x, y}) cache.Pin(entry, false);
}

TEST_CASE("wtinylfu lets newcomers into main by duels only, however many a request brings") {
  PolicyDriver cache("wtinylfu:window=0.25", SmallConfig(4));  // a window of one
  cache.UseAll({a, a, a, b, b, b, c, c, c, d});                // window d; probation a b c
  UseTogether(cache, e, f);  // d loses to a; then the window is pinned and a has to go
  CHECK(cache.Has(f));
  UseTogether(cache, 6, 7);
  CHECK(!cache.Has(e));  // one use is not enough for main
  CHECK(!cache.Has(f));
  CHECK(cache.Has(b));
  cache.Use(a);  // with four uses it wins when its turn comes
  for (EntryId entry = 8; entry < 16; ++entry) cache.Use(entry);
  for (const EntryId entry : {a, b, c}) CHECK(cache.Has(entry));
}

TEST_CASE("wtinylfu's window holds what a token needs of a layer") {
  PolicyConfig config = SmallConfig(5);
  config.top_k = 2;
  PolicyDriver cache("wtinylfu", config);
  cache.UseAll({a, a, b, b, c, c, d, e});  // window d e; probation a b c
  UseTogether(cache, f, 6);
  CHECK(!cache.Has(d));
  CHECK(!cache.Has(e));
  for (const EntryId entry : {a, b, c}) CHECK(cache.Has(entry));
}

TEST_CASE("wtinylfu's main part grows again after requests that took all of it") {
  PolicyDriver cache("wtinylfu:window=0.25", SmallConfig(4));
  cache.UseAll({a, b, c, d});
  for (EntryId entry = 4; entry < 8; ++entry) cache.Pin(entry, true);
  cache.UseAll({4, 5, 6, 7});  // all of it window now
  for (EntryId entry = 4; entry < 8; ++entry) cache.Pin(entry, false);
  cache.UseAll({4, 4, 5, 5, 6, 6, 7});
  for (EntryId entry = 8; entry < 16; ++entry) cache.Use(entry);
  int n_left = 0;
  for (EntryId entry = 4; entry < 8; ++entry) n_left += cache.Has(entry) ? 1 : 0;
  CHECK(n_left == 3);  // as many as main holds
}

TEST_CASE("gdsf weighs uses with the cost of a miss") {
  PolicyConfig config = SmallConfig(2, 2, 4);
  config.layer_cost = {1.0F, 3.0F};
  PolicyDriver cache("gdsf", config);
  cache.UseAll({4, 0});      // 4 is of layer 1: three times as dear
  CHECK(cache.Use(1) == 0);  // although 4 is older
  cache.UseAll({1, 1, 1});
  CHECK(cache.Use(2) == 4);  // four cheap uses outweigh one dear one
}

TEST_CASE("least-stale keeps hitting below one token cycle") {
  PolicyDriver cache("least-stale", SmallConfig(3, 4, 2));  // 4 layers, top-1, 3 slots
  for (EntryId layer = 0; layer < 3; ++layer) cache.Use(layer * 2, 1);
  CHECK(cache.Use(6, 1) == 4);         // layer 2 was just passed: needed last
  CHECK(cache.Use(0, 2) == kNoEntry);  // where LRU would miss
  CHECK(cache.Use(2, 2) == kNoEntry);
  CHECK(cache.Use(4, 2) == 2);  // layer 1 is furthest now; layer 3 comes next
  CHECK(cache.Use(6, 2) == kNoEntry);
  // Layer 0 passes expert 0 over: stale from now on.
  CHECK(cache.Use(1, 3) == 0);
}

TEST_CASE("random depends on its seed alone and asking twice changes nothing") {
  PolicyConfig config = SmallConfig(4);
  std::vector<EntryId> victims[3];
  for (int run = 0; run < 3; ++run) {
    config.seed = run == 2 ? 99 : 5;
    PolicyDriver cache("random", config);
    cache.UseAll({a, b, c, d});
    for (EntryId entry = 4; entry < 16; ++entry) {
      const EntryId asked = cache.policy().Victim(entry, cache.pinned());
      victims[run].push_back(cache.Use(entry));
      CHECK(victims[run].back() == asked);
    }
  }
  CHECK(victims[0] == victims[1]);
  CHECK(victims[0] != victims[2]);
}

TEST_CASE("static keeps the recorded hot set") {
  const test::TempDir dir;
  test::WriteFile(dir / "hot.txt", "# layer expert count\n0 0 10\n\n0 1 20\n");
  const std::string spec = "static:from=" + (dir / "hot.txt").string();
  PolicyDriver cache(spec, SmallConfig(3));
  cache.UseAll({c, a, b});
  CHECK(cache.Use(d) == c);
  CHECK(cache.Use(e) == d);
  CHECK(cache.Has(a));
  CHECK(cache.Has(b));
  test::WriteFile(dir / "bad.txt", "0 0 1\n0 16 1\n");
  CHECK_THROWS_WITH(MakePolicy("static:from=" + (dir / "bad.txt").string(), SmallConfig(3)),
                    test::HasText("line 2"));
  CHECK_THROWS_WITH(MakePolicy("static", SmallConfig(3)), test::HasText("from=FILE"));
  // What holds no counts would make it LRU.
  const std::string here = dir.path().string();
  CHECK_THROWS_WITH(MakePolicy("static:from=" + here, SmallConfig(3)),
                    test::HasText(here) && test::HasText("is a directory"));
  for (const char* text : {"", "# layer expert count\n", "0 0 0\n"}) {
    test::WriteFile(dir / "empty.txt", text);
    CHECK_THROWS_WITH(MakePolicy("static:from=" + (dir / "empty.txt").string(), SmallConfig(3)),
                      test::HasText("empty.txt") && test::HasText("no use"));
  }
}

TEST_CASE("forecast learns who comes back") {
  PolicyConfig config = SmallConfig(4, 1, 16);
  config.top_k = 2;
  PolicyDriver cache("forecast", config);
  // a is used in every pass; the other access walks through the rest.
  for (int64_t token = 1; token < 200; ++token) {
    cache.Use(a, token);
    cache.Use(static_cast<EntryId>(1 + token % 15), token);
    if (token > 2) REQUIRE(cache.Has(a));
  }
}

TEST_CASE("forecast below one token cycle keeps what is due soon") {
  PolicyDriver cache("forecast", SmallConfig(3, 4, 2));
  int hits = 0;
  for (int64_t token = 1; token <= 50; ++token) {
    for (EntryId layer = 0; layer < 4; ++layer) {
      hits += cache.Use(layer * 2, token) == kNoEntry && token > 1 ? 1 : 0;
    }
  }
  // Belady hits 2 of 3 of every cycle of 4 here, in the long run; LRU none.
  CHECK(hits >= 90);
}

TEST_CASE("per-layer scope gives every layer its share") {
  PolicyDriver cache("lru:scope=layer", SmallConfig(4, 2, 8));  // two slots per layer
  cache.UseAll({0, 1, 8, 9});
  CHECK(cache.Use(2) == 0);
  CHECK(cache.Use(3) == 1);
  CHECK(cache.Use(10) == 8);
  // While it fills up a layer may exceed its share, and gives way first later.
  PolicyDriver uneven("lru:scope=layer", SmallConfig(4, 2, 8));
  uneven.UseAll({0, 1, 2, 3});
  CHECK(uneven.Use(8) == 0);
  CHECK(uneven.Use(9) == 1);
  CHECK(uneven.Use(10) == 8);
}

TEST_CASE("a layer that gives a slot to another is not asked about an expert of its own") {
  PolicyDriver cache("arc:scope=layer", SmallConfig(4, 2, 8));  // two slots per layer
  cache.UseAll({9, 0, 1, 2, 0, 1});                             // layer 0: T1 2, T2 1 0
  CHECK(cache.Use(3) == 2);
  CHECK(cache.Use(2) == 0);  // found in B1: one may stay in T1; T1 3, T2 2 1, B2 0
  // Of the same number as 0, which the history of layer 0 remembers: that would take 3.
  CHECK(cache.Use(8) == 1);
}

}  // namespace
}  // namespace stoker
