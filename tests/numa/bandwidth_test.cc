#include "numa/bandwidth.h"

#include <algorithm>
#include <set>

#include "numa/bytes.h"
#include "numa/memory_limits.h"
#include "numa/thread_team.h"
#include "numa/topology.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

TEST_CASE("the probe outgrows the caches within what is usable") {
  Topology t = Topology::FromSynthetic("pack:2 [numa] l3:4 core:8 pu:2");
  for (Topology::L3Domain& domain : t.l3_domains) domain.cache_bytes = 32 * kMiB;
  CHECK(ProbeBytes(t, 100 * kGiB) == 3 * kGiB / 2);
  for (Topology::L3Domain& domain : t.l3_domains) domain.cache_bytes = 96 * kMiB;
  CHECK(ProbeBytes(t, 100 * kGiB) == 3 * 8 * 96 * kMiB);
  CHECK(ProbeBytes(t, 2 * kGiB) == kGiB / 2);
  CHECK(ProbeBytes(t, 100) == 0);
}

TEST_CASE("the probe buffer holds no two equal lines") {
  ThreadTeam team(0);
  const NodeBuffer buffer = MakeProbeBuffer(team, 4 * kMiB);
  std::set<uint64_t> first_words;
  for (size_t at = 0; at < buffer.size(); at += 64) {
    first_words.insert(LoadLe<uint64_t>(buffer.data() + at));
  }
  CHECK(first_words.size() == buffer.size() / 64);
}

TEST_CASE("a measurement is a median of positive samples") {
  ThreadTeam team(0);
  const NodeBuffer buffer = MakeProbeBuffer(team, 6 * kMiB);
  for (const int passes : {1, 4, 5}) {
    const ReadBandwidth read = MeasureReadBandwidth(team, buffer.span(), passes);
    CHECK(read.bytes == 6 * kMiB);
    REQUIRE(read.samples.size() == static_cast<size_t>(passes));
    CHECK(read.lowest > 0);
    CHECK(read.lowest <= read.bytes_per_second);
    CHECK(read.bytes_per_second <= read.highest);
    // Faster than a petabyte per second means that the loads were optimised away.
    CHECK(read.highest < 1e15);
  }
}

}  // namespace
}  // namespace stoker
