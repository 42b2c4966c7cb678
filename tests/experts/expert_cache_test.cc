#include "experts/expert_cache.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <vector>

#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/expert_model.h"
#include "tests/support/fake_pager.h"
#include "tests/support/file_tree.h"
#include "tests/support/test_policy.h"

namespace {

// Counts allocations of this program, to show that the token path makes none. Not inlined: GCC
// would take a pair of which it sees one half for a mismatch.
uint64_t g_allocations = 0;

}  // namespace

[[gnu::noinline]] void* operator new(size_t bytes) {
  ++g_allocations;
  if (void* block = std::malloc(bytes); block != nullptr) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++g_allocations;
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, size_t) noexcept { std::free(block); }

namespace stoker {
namespace {

using testing::FakeDevice;
using testing::FakePager;
using testing::TestPolicy;

constexpr int kLayers = 4;
constexpr int kExperts = 8;

// One model file for all tests of this program.
const WeightStore& Store() {
  static FileTree tree;
  static const std::unique_ptr<WeightStore> store = [] {
    const std::string path = tree.root() + "/model.gguf";
    testing::WriteExpertModel(path, {.n_layers = kLayers, .n_experts = kExperts});
    return WeightStore::Open(path);
  }();
  return *store;
}

ThreadTeam& Team() {
  static ThreadTeam team(1, false);
  return team;
}

class Accesses final : public AccessObserver {
 public:
  void OnAccesses(std::span<const ExpertAccess> accesses) noexcept override {
    for (const ExpertAccess& access : accesses) {
      (access.hit ? hits : misses) += 1;
      bytes += access.bytes;
      victims += access.victim != kNoEntry ? 1 : 0;
    }
  }
  void OnSpeculativeRead(const SpeculativeRead& read) noexcept override {
    used += read.used ? 1 : 0;
    wasted_bytes += read.used ? 0 : read.bytes;
  }
  uint64_t used = 0;
  uint64_t wasted_bytes = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t bytes = 0;
  uint64_t victims = 0;
};

struct Rig {
  explicit Rig(uint32_t n_slots, const FakeDevice& device = {}, bool prefetch = false) {
    const std::vector<PagerFile> files = PagerFiles(Store());
    auto owned = std::make_unique<FakePager>(files, device, PagerOptions{.piece_bytes = 65536});
    pager = owned.get();
    CachePlan plan = PlanCache(Store(), *pager, UINT64_MAX);
    plan = PlanCache(Store(), *pager, plan.slot_bytes * (n_slots + (prefetch ? 1 : 0)), prefetch);
    plan.block_bytes = 4096;
    auto owned_policy = std::make_unique<TestPolicy>(plan.policy);
    policy = owned_policy.get();
    cache = std::make_unique<ExpertCache>(Store(), std::move(owned), std::move(owned_policy), plan,
                                          Team(), &accesses, PrefetchMode::kOn);
  }
  FakePager* pager;
  TestPolicy* policy;
  Accesses accesses;
  std::unique_ptr<ExpertCache> cache;
};

bool SameMatrix(const TensorView& got, const TensorView& expected) {
  return got.type == expected.type && got.bytes == expected.bytes &&
         got.rows() == expected.rows() && got.cols() == expected.cols() &&
         std::memcmp(got.data, expected.data, expected.bytes) == 0;
}

bool SameExpert(const ExpertHandle& handle) {
  const ExpertView& view = handle.view();
  return SameMatrix(view.gate, Store().ExpertView(handle.id(), ExpertPart::kGate)) &&
         SameMatrix(view.up, Store().ExpertView(handle.id(), ExpertPart::kUp)) &&
         SameMatrix(view.down, Store().ExpertView(handle.id(), ExpertPart::kDown));
}

// n distinct experts of one layer.
std::vector<ExpertId> RandomIds(std::mt19937_64& random, int32_t layer, size_t n) {
  std::vector<int32_t> experts(kExperts);
  for (int32_t e = 0; e < kExperts; ++e) experts[e] = e;
  std::shuffle(experts.begin(), experts.end(), random);
  std::vector<ExpertId> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back({layer, experts[i]});
  return ids;
}

// Takes everything announced; true when each id came once, with the right bytes.
bool TakeAll(ExpertCache& cache, const std::vector<ExpertId>& ids) {
  std::vector<int> seen(kExperts, 0);
  bool good = true;
  for (size_t i = 0; i < ids.size(); ++i) {
    const ExpertHandle handle = cache.Next();
    good = good && SameExpert(handle) && handle.id().layer == ids[0].layer;
    ++seen[handle.id().expert];
  }
  for (const ExpertId id : ids) good = good && seen[id.expert] == 1;
  return good;
}

TEST_CASE("the budget becomes slots, and too small a one is refused with numbers") {
  Rig rig(3);
  CHECK(rig.cache->n_slots() == 3);
  const CachePlan all = PlanCache(Store(), *rig.pager, UINT64_MAX);
  CHECK(all.n_slots == kLayers * kExperts);
  CHECK(all.policy.layer_cost.size() == kLayers);
  CHECK(all.policy.layer_cost[1] > all.policy.layer_cost[0]);  // Q8_0 down matrices
  try {
    PlanCache(Store(), *rig.pager, all.slot_bytes * 2 - 1);
    FAIL("accepted");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()).find("--memory") != std::string::npos);
  }
}

TEST_CASE("hits come first, then misses, each once and with the file's bytes") {
  Rig rig(8);
  rig.cache->Request(std::vector<ExpertId>{{0, 1}, {0, 2}});
  CHECK(TakeAll(*rig.cache, {{0, 1}, {0, 2}}));
  rig.cache->Request(std::vector<ExpertId>{{0, 3}, {0, 2}, {0, 4}, {0, 1}});
  CHECK(rig.cache->Next().id() == ExpertId{0, 2});
  CHECK(rig.cache->Next().id() == ExpertId{0, 1});
  CHECK(TakeAll(*rig.cache, {{0, 3}, {0, 4}}));
  const CacheStats stats = rig.cache->stats();
  CHECK(stats.hits == 2);
  CHECK(stats.misses == 4);
  CHECK(stats.evictions == 0);
  CHECK(rig.policy->log() == "m1 +1 m2 +2 m3 +3 h2 m4 +4 h1 ");
  CHECK(rig.accesses.hits == 2);
  CHECK(rig.accesses.misses == 4);
  CHECK(rig.accesses.bytes == stats.bytes_read);
}

TEST_CASE("a pinned slot is never a victim") {
  Rig rig(2);
  rig.cache->Request(std::vector<ExpertId>{{0, 0}});
  ExpertHandle held = rig.cache->Next();
  for (int32_t expert = 1; expert < kExperts; ++expert) {
    rig.cache->Request(std::vector<ExpertId>{{1, expert}});
    const ExpertHandle handle = rig.cache->Next();
    CHECK(SameExpert(handle));
    CHECK(SameExpert(held));
  }
  CHECK(rig.cache->stats().evictions == kExperts - 2);
  CHECK(rig.cache->Contains({0, 0}));
  ExpertHandle moved = std::move(held);
  CHECK_FALSE(held.valid());
  CHECK(SameExpert(moved));
}

TEST_CASE("any request fits any budget, whatever the device does") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto n_slots = static_cast<uint32_t>(2 + seed % 12);
    FakeDevice device;
    device.seed = seed;
    device.short_rate = seed % 3 == 0 ? 0.5 : 0.0;
    device.transient_rate = seed % 4 == 0 ? 0.2 : 0.0;
    device.empty_rate = seed % 5 == 0 ? 0.02 : 0.0;
    device.depth = static_cast<uint32_t>(1 + seed % 9);
    CAPTURE(seed, n_slots);
    Rig rig(n_slots, device);
    std::mt19937_64 random(seed);
    for (int step = 0; step < 60; ++step) {
      const size_t n = step % 5 == 4 ? 1 + random() % kExperts : 1 + random() % 2;
      const std::vector<ExpertId> ids = RandomIds(random, step % kLayers, n);
      rig.cache->Request(ids);
      REQUIRE(TakeAll(*rig.cache, ids));
    }
    const CacheStats stats = rig.cache->stats();
    CHECK(stats.hits == rig.accesses.hits);
    CHECK(stats.misses == rig.accesses.misses);
    CHECK(stats.evictions == rig.accesses.victims);
    CHECK(stats.bytes_read == rig.accesses.bytes);
    CHECK(stats.failed_reads == 0);
  }
}

TEST_CASE("what the policy sees does not depend on the order of arrival") {
  for (const uint32_t n_slots : {2U, 3U, 5U, 9U, 20U}) {
    std::string log;
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      FakeDevice device;
      device.seed = seed;
      device.reorder = seed > 1;
      device.depth = seed == 1 ? 1 : 8;
      Rig rig(n_slots, device);
      std::mt19937_64 random(7);
      for (int step = 0; step < 80; ++step) {
        const std::vector<ExpertId> ids =
            RandomIds(random, step % kLayers, step % 7 == 3 ? kExperts : 2);
        rig.cache->Request(ids);
        REQUIRE(TakeAll(*rig.cache, ids));
      }
      CAPTURE(n_slots, seed);
      if (seed == 1) log = rig.policy->log();
      CHECK(rig.policy->log() == log);
    }
  }
}

TEST_CASE("a request larger than the cache streams through it, hits first") {
  Rig rig(3);
  const std::vector<ExpertId> two = {{2, 6}, {2, 7}};
  rig.cache->Request(two);
  REQUIRE(TakeAll(*rig.cache, two));
  std::vector<ExpertId> all;
  for (int32_t e = 0; e < kExperts; ++e) all.push_back({2, e});
  rig.cache->Request(all);
  std::vector<int32_t> order;
  for (int i = 0; i < kExperts; ++i) {
    const ExpertHandle handle = rig.cache->Next();
    CHECK(SameExpert(handle));
    order.push_back(handle.id().expert);
  }
  CHECK(order == std::vector<int32_t>{6, 7, 0, 1, 2, 3, 4, 5});
  CHECK(rig.cache->stats().streamed == 1);
  CHECK(rig.cache->stats().hits == 2);
  CHECK(rig.cache->stats().misses == 8);
}

TEST_CASE("what streamed through makes room for the next layer") {
  constexpr uint32_t kSlots = 4;
  Rig rig(kSlots, {}, /*prefetch=*/true);
  std::vector<ExpertId> layer[2];
  for (int32_t e = 0; e < kExperts; ++e) {
    layer[0].push_back({0, e});
    layer[1].push_back({1, e});
  }
  rig.cache->Request(layer[0]);
  rig.cache->Expect(layer[1]);
  REQUIRE(TakeAll(*rig.cache, layer[0]));
  for (const ExpertId id : layer[0]) CHECK_FALSE(rig.cache->Contains(id));
  rig.cache->Poll();
  while (rig.pager->pending() > 0) rig.cache->Poll();  // The engine computes on something else.
  rig.cache->Request(layer[1]);
  REQUIRE(TakeAll(*rig.cache, layer[1]));
  // All slots and the one set aside; each expert was read once.
  CHECK(rig.cache->stats().prefetch_used == kSlots + 1);
  CHECK(rig.cache->stats().prefetch_wasted == 0);
  CHECK(rig.cache->stats().misses == 2 * kExperts);
  CHECK(rig.cache->stats().bytes_read == rig.accesses.bytes);
}

TEST_CASE("two slots suffice while one handle is held across Next") {
  Rig rig(2);
  std::vector<ExpertId> all;
  for (int32_t e = 0; e < kExperts; ++e) all.push_back({1, e});
  for (int round = 0; round < 3; ++round) {
    rig.cache->Request(all);
    ExpertHandle handle;
    for (int i = 0; i < kExperts; ++i) {
      handle = rig.cache->Next();
      REQUIRE(SameExpert(handle));
    }
  }
}

TEST_CASE("an announcement that is not taken is dropped") {
  Rig rig(4);
  rig.cache->Request(std::vector<ExpertId>{{0, 0}, {0, 1}, {0, 2}});
  rig.cache->Next();
  rig.cache->Request(std::vector<ExpertId>{{1, 0}, {1, 1}});
  CHECK(TakeAll(*rig.cache, {{1, 0}, {1, 1}}));
  rig.cache->Request(std::vector<ExpertId>{{1, 0}});
  CHECK(TakeAll(*rig.cache, {{1, 0}}));
  CHECK(rig.cache->stats().hits == 1);
}

TEST_CASE("expected experts stay, unless a demanded one has no other place") {
  Rig rig(3);
  const std::vector<ExpertId> three = {{0, 0}, {0, 1}, {0, 2}};
  rig.cache->Request(three);
  REQUIRE(TakeAll(*rig.cache, three));
  rig.cache->Expect(std::vector<ExpertId>{{0, 0}, {0, 1}, {0, 7}});
  rig.cache->Request(std::vector<ExpertId>{{1, 0}});  // evicts {0, 2}, the most recently used
  REQUIRE(TakeAll(*rig.cache, {{1, 0}}));
  CHECK(rig.cache->Contains({0, 0}));
  CHECK(rig.cache->Contains({0, 1}));
  CHECK_FALSE(rig.cache->Contains({0, 2}));
  SECTION("their own request ends it") {
    rig.cache->Request(std::vector<ExpertId>{{0, 1}});
    REQUIRE(TakeAll(*rig.cache, {{0, 1}}));
    rig.cache->Request(std::vector<ExpertId>{{1, 1}});
    REQUIRE(TakeAll(*rig.cache, {{1, 1}}));
    CHECK_FALSE(rig.cache->Contains({0, 0}));
  }
  SECTION("demand ends it") {
    rig.cache->Request(std::vector<ExpertId>{{1, 0}, {1, 1}});
    REQUIRE(TakeAll(*rig.cache, {{1, 0}, {1, 1}}));
    CHECK_FALSE(rig.cache->Contains({0, 0}));
    CHECK(rig.cache->stats().streamed == 0);
  }
}

TEST_CASE("reads on speculation change no hit, no victim and no byte") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    FakeDevice device;
    device.seed = seed;
    device.short_rate = seed % 3 == 0 ? 0.3 : 0.0;
    Rig with(3 + seed % 9, device, /*prefetch=*/true);
    Rig without(3 + seed % 9, device);
    CAPTURE(seed);
    REQUIRE(with.cache->n_slots() == without.cache->n_slots());
    CHECK(with.cache->wants_guesses());
    CHECK_FALSE(without.cache->wants_guesses());
    std::mt19937_64 random(seed);
    for (int step = 0; step < 80; ++step) {
      const std::vector<ExpertId> ids =
          RandomIds(random, step % kLayers, step % 7 == 3 ? kExperts : 2);
      // Right, half right or wrong; a guess protects, so the other cache is told of it too.
      std::vector<ExpertId> guess = ids;
      if (step % 3 > 0) guess[0].expert = (guess[0].expert + 1) % kExperts;
      if (guess.size() > 1 && guess[0] == guess[1]) guess.resize(1);
      if (step % 3 == 2) guess.resize(1);
      with.cache->Expect(guess);
      without.cache->Expect(guess);
      with.cache->Poll();
      for (Rig* rig : {&with, &without}) {
        rig->cache->Request(ids);
        REQUIRE(TakeAll(*rig->cache, ids));
      }
    }
    CHECK(with.policy->log() == without.policy->log());
    const CacheStats stats = with.cache->stats();
    CHECK(stats.misses == without.cache->stats().misses);
    CHECK(stats.bytes_read == without.cache->stats().bytes_read);
    CHECK(stats.prefetch_used > 0);
    CHECK(stats.prefetch_wasted > 0);
    CHECK(without.cache->stats().prefetch_used == 0);
    CHECK(stats.prefetch_used == with.accesses.used);
    CHECK(stats.prefetch_wasted_bytes == with.accesses.wasted_bytes);
  }
}

TEST_CASE("a failed read on speculation is nobody's error") {
  FakeDevice device;
  device.fail_from = 1;
  device.fail_count = UINT64_MAX;
  Rig rig(4, device, /*prefetch=*/true);
  const std::vector<ExpertId> ids = {{0, 3}};
  rig.cache->Expect(ids);
  rig.cache->Poll();
  for (int i = 0; i < 200; ++i) rig.cache->Poll();  // collects
  rig.pager->device().fail_from = 0;
  rig.cache->Request(ids);
  CHECK(TakeAll(*rig.cache, ids));
  CHECK(rig.cache->stats().misses == 1);
  CHECK(rig.cache->stats().failed_reads == 0);
}

TEST_CASE("rows of the last expert can be used as they arrive") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    FakeDevice device;
    device.seed = seed;
    device.depth = static_cast<uint32_t>(1 + seed % 6);
    Rig rig(4, device, seed % 2 == 0);
    const std::vector<ExpertId> ids = {{1, 2}, {1, 5}};
    if (seed % 4 == 0) {
      rig.cache->Expect(ids);
      rig.cache->Poll();
    }
    rig.cache->Request(ids);
    const ExpertHandle first = rig.cache->NextArriving();  // two are left: complete
    CHECK(first.complete());
    CHECK(SameExpert(first));
    const ExpertHandle last = rig.cache->NextArriving();
    for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp, ExpertPart::kDown}) {
      const TensorView expected = Store().ExpertView(last.id(), part);
      const TensorView* got = part == ExpertPart::kGate ? &last.view().gate
                              : part == ExpertPart::kUp ? &last.view().up
                                                        : &last.view().down;
      int64_t have = 0;
      while (have < expected.rows()) {
        const int64_t ready = last.WaitRows(part, have);
        REQUIRE(ready > have);
        REQUIRE(std::memcmp(got->row(have), expected.row(have),
                            static_cast<size_t>(ready - have) * expected.row_bytes()) == 0);
        have = ready;
      }
      CHECK(have == expected.rows());
    }
    CHECK(SameExpert(last));
  }
}

TEST_CASE("an error while an expert arrives is thrown by WaitRows, and its slot comes back") {
  for (uint64_t n = 1; n < 8; ++n) {
    FakeDevice device;
    device.fail_from = n;
    device.fail_count = UINT64_MAX;
    Rig rig(2, device);
    const std::vector<ExpertId> ids = {{1, 2}};
    CAPTURE(n);
    try {
      rig.cache->Request(ids);
      const ExpertHandle handle = rig.cache->NextArriving();
      handle.WaitRows(ExpertPart::kGate, 0);
      handle.WaitRows(ExpertPart::kDown, handle.view().down.rows() - 1);
    } catch (const std::runtime_error& error) {
      CHECK(std::string(error.what()).find("Input/output error (layer 1") != std::string::npos);
    }
    rig.pager->device().fail_from = 0;
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<ExpertId> all;
      for (int32_t e = 0; e < kExperts; ++e) all.push_back({layer, e});
      rig.cache->Request(all);
      REQUIRE(TakeAll(*rig.cache, all));
    }
  }
}

TEST_CASE("a pager that takes reads and throws is not given them again") {
  Rig rig(8);
  const std::vector<ExpertId> ids = {{0, 1}, {0, 2}};
  rig.pager->device().refuse_submit = 1;
  CHECK_THROWS_AS(rig.cache->Request(ids), std::system_error);
  for (const std::vector<ExpertId>& next : {ids, {{0, 3}, {0, 2}, {0, 4}, {0, 1}}}) {
    rig.cache->Request(next);
    CHECK(TakeAll(*rig.cache, next));
  }
  CHECK(rig.pager->pending() == 0);
}

// A run of some requests; returns whether an error was thrown, and checks all bytes that came.
bool RunOnce(Rig& rig, std::string* message) {
  std::mt19937_64 random(3);
  for (int step = 0; step < 24; ++step) {
    const std::vector<ExpertId> ids =
        RandomIds(random, step % kLayers, step == 10 ? kExperts : 2);
    try {
      rig.cache->Request(ids);
      const bool good = TakeAll(*rig.cache, ids);  // outside REQUIRE, which would swallow the error
      REQUIRE(good);
    } catch (const std::runtime_error& error) {
      *message = error.what();
      return true;
    }
  }
  return false;
}

TEST_CASE("an error on the n-th read, for every n: once, and for good") {
  uint64_t n_reads = 0;
  {
    Rig rig(5);
    std::string message;
    REQUIRE_FALSE(RunOnce(rig, &message));
    n_reads = rig.pager->io_count();
  }
  REQUIRE(n_reads > 50);
  for (uint64_t n = 1; n <= n_reads; ++n) {
    CAPTURE(n);
    std::string message;
    {
      FakeDevice device;
      device.fail_from = n;
      Rig rig(5, device);
      CHECK_FALSE(RunOnce(rig, &message));
      CHECK(rig.cache->stats().pager.retries == 1);
    }
    FakeDevice device;
    device.fail_from = n;
    device.fail_count = UINT64_MAX;
    Rig rig(5, device);
    REQUIRE(RunOnce(rig, &message));
    CHECK(message.find("model.gguf: tensor blk.") != std::string::npos);
    CHECK(message.find("_exps.weight: read at offset ") != std::string::npos);
    CHECK(message.find("Input/output error (layer ") != std::string::npos);
    // The device recovers, and so does the cache.
    rig.pager->device().fail_from = 0;
    CHECK_FALSE(RunOnce(rig, &message));
    CHECK(rig.cache->stats().failed_reads > 0);
  }
}

TEST_CASE("nothing is allocated after opening") {
  Rig rig(5, {}, /*prefetch=*/true);
  std::mt19937_64 random(5);
  std::vector<std::vector<ExpertId>> requests;
  for (int step = 0; step < 100; ++step) {
    requests.push_back(RandomIds(random, step % kLayers, step % 9 == 0 ? kExperts : 2));
  }
  const std::vector<AccessContext> contexts(2, AccessContext{.layer = 1, .gate_weight = 0.5F});
  const uint64_t before = g_allocations;
  for (const std::vector<ExpertId>& ids : requests) {
    if (ids.size() == 2) rig.cache->Expect(ids);
    if (ids.size() == 2) rig.cache->Poll();
    if (ids.size() == 2 && ids[0].layer == 1) {
      rig.cache->DescribeRequest({.contexts = contexts, .routes = {}});
    }
    rig.cache->Request(ids);
    for (size_t i = 0; i < ids.size(); ++i) rig.cache->Next();
  }
  CHECK(g_allocations == before);
}

TEST_CASE("a cache can be destroyed while it reads") {
  for (uint64_t seed = 1; seed < 10; ++seed) {
    FakeDevice device;
    device.seed = seed;
    Rig rig(8, device, seed % 3 == 0);
    rig.cache->Request(std::vector<ExpertId>{{3, 0}, {3, 1}, {3, 2}, {3, 3}});
    if (seed % 2 == 0) rig.cache->Next();
    rig.cache->Expect(std::vector<ExpertId>{{0, 1}});
    rig.cache->Poll();
  }
}

}  // namespace
}  // namespace stoker
