// The account behind `--prefetch auto`: stops what loses, tries again, and never stops what pays.

#include "experts/prefetch_governor.h"

#include "tests/support/catch.h"

namespace stoker {
namespace {

// Requests in which reads were allowed, of `n`; each allowed one gains or loses these bytes.
int Allowed(PrefetchGovernor& governor, int n, uint64_t gain, uint64_t loss) {
  int allowed = 0;
  for (int i = 0; i < n; ++i) {
    if (governor.Allows()) {
      ++allowed;
      governor.OnUsed(gain);
      governor.OnDelayed(loss);
    }
    governor.OnRequest(0, {});
  }
  return allowed;
}

TEST_CASE("what pays goes on, what loses is tried ever more rarely") {
  PrefetchGovernor pays(PrefetchMode::kAuto, 1);
  CHECK(Allowed(pays, 10000, 100, 99) == 10000);
  PrefetchGovernor loses(PrefetchMode::kAuto, 1);
  const int trials = Allowed(loses, 100000, 99, 100);
  CHECK(trials > 64);
  CHECK(trials < 1000);  // at most 1 % of the requests
  CHECK(loses.resting_requests() == 100000U - static_cast<unsigned>(trials));
}

TEST_CASE("it comes back when reads begin to pay") {
  PrefetchGovernor governor(PrefetchMode::kAuto, 1);
  Allowed(governor, 1000, 0, 100);
  Allowed(governor, 20000, 100, 0);
  CHECK(Allowed(governor, 1000, 100, 0) == 1000);
}

TEST_CASE("on and off do not ask") {
  PrefetchGovernor on(PrefetchMode::kOn, 1);
  CHECK(Allowed(on, 1000, 0, 100) == 1000);
  PrefetchGovernor off(PrefetchMode::kOff, 1);
  CHECK(Allowed(off, 1000, 100, 0) == 0);
}

TEST_CASE("accuracy is kept per layer") {
  PrefetchGovernor governor(PrefetchMode::kAuto, 2);
  governor.OnRequest(1, {2, 1, 2, 0});
  governor.OnRequest(1, {2, 2, 2, 1});
  CHECK(governor.accuracy()[0].guessed == 0);
  CHECK(governor.accuracy()[1].guessed == 4);
  CHECK(governor.accuracy()[1].right == 3);
  CHECK(governor.accuracy()[1].early_right == 1);
  CHECK(PrefetchModeFromName("auto") == PrefetchMode::kAuto);
  CHECK_FALSE(PrefetchModeFromName("maybe").has_value());
}

}  // namespace
}  // namespace stoker
