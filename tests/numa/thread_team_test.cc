#include "numa/thread_team.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "numa/affinity.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

// More workers than CPUs are allowed when places are given: barriers must then sleep, not spin.
std::vector<WorkerPlace> CrowdedPlaces(int count) {
  const std::vector<int>& cpus = ProcessCpus();
  std::vector<WorkerPlace> places;
  for (int i = 0; i < count; ++i) {
    places.push_back({.cpu = cpus[static_cast<size_t>(i) % cpus.size()], .node = i * 2 / count});
  }
  return places;
}

TEST_CASE("shares are contiguous, ordered, complete and balanced") {
  for (const int count : {1, 2, 3, 7, 64}) {
    for (const int64_t grain : {1, 3, 64}) {
      for (const int64_t n : {0, 1, 2, 63, 64, 65, 1000, 9216}) {
        CAPTURE(count, grain, n);
        int64_t expected_begin = 0;
        int64_t fewest = n + 1;
        int64_t most = 0;
        for (int index = 0; index < count; ++index) {
          const Worker worker{.index = index, .count = count};
          const auto [begin, end] = worker.Share(n, grain);
          REQUIRE(begin == expected_begin);
          REQUIRE(end >= begin);
          REQUIRE((begin % grain == 0 || begin == n));
          expected_begin = end;
          const int64_t grains = (end - begin + grain - 1) / grain;
          fewest = std::min(fewest, grains);
          most = std::max(most, grains);
        }
        REQUIRE(expected_begin == n);
        REQUIRE(most - fewest <= 1);
      }
    }
  }
}

TEST_CASE("a team in static storage outlives its thread's variables") {
  static ThreadTeam team(1);  // a use after free, which the sanitizers see, if its end touched them
  int runs = 0;
  team.Run([&](const Worker&) { ++runs; });
  CHECK(runs == 1);
}

TEST_CASE("every worker runs once, with its index and its CPU") {
  ThreadTeam team(0);
  REQUIRE(team.size() >= 1);
  std::vector<int> calls(static_cast<size_t>(team.size()), 0);
  std::vector<int> cpu(calls.size(), -1);
  for (int round = 0; round < 50; ++round) {
    team.Run([&](const Worker& worker) {
      const auto index = static_cast<size_t>(worker.index);
      ++calls[index];
      cpu[index] = ::sched_getcpu();
      if (worker.count != team.size()) calls[index] = -1000;
    });
  }
  CHECK(calls == std::vector<int>(calls.size(), 50));
  if (team.pinned()) CHECK(cpu == team.cpus());
}

TEST_CASE("barriers order the phases of all workers") {
  for (const int count : {1, 2, 3, 5}) {
    CAPTURE(count);
    ThreadTeam team(CrowdedPlaces(count));
    const int rounds = count > 2 ? 40 : 2000;  // crowded rounds sleep in the kernel
    std::vector<int64_t> cells(static_cast<size_t>(count), 0);  // plain: the barrier publishes them
    std::atomic<int> wrong{0};
    team.Run([&](const Worker& worker) {
      for (int round = 1; round <= rounds; ++round) {
        cells[static_cast<size_t>(worker.index)] = round * 10 + worker.index;
        worker.Barrier();
        for (int other = 0; other < worker.count; ++other) {
          if (cells[static_cast<size_t>(other)] != round * 10 + other) ++wrong;
        }
        worker.Barrier();
      }
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("a late worker is waited for although the others sleep") {
  ThreadTeam team(CrowdedPlaces(2));
  int64_t value = 0;
  int64_t seen = 0;
  team.Run([&](const Worker& worker) {
    if (worker.index == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      value = 42;
    }
    worker.Barrier();
    if (worker.index == 0) seen = value;
  });
  CHECK(seen == 42);
}

TEST_CASE("writes before, in and after a run are visible in order") {
  ThreadTeam team(CrowdedPlaces(3));
  std::vector<int64_t> data(3000);
  int64_t expected = 0;
  for (int round = 0; round < 200; ++round) {
    std::iota(data.begin(), data.end(), round);
    team.Run([&](const Worker& worker) {
      const auto [begin, end] = worker.Share(static_cast<int64_t>(data.size()), 16);
      for (int64_t i = begin; i < end; ++i) data[static_cast<size_t>(i)] *= 2;
    });
    expected = 0;
    for (int64_t i = 0; i < 3000; ++i) expected += 2 * (round + i);
    REQUIRE(std::accumulate(data.begin(), data.end(), int64_t{0}) == expected);
  }
}

// A plain region races in ThreadSanitizer's eyes, because libgomp is not instrumented.
#if !defined(__SANITIZE_THREAD__)
TEST_CASE("foreign regions of other sizes do not upset the team") {
  ThreadTeam team(CrowdedPlaces(4));
  std::vector<int> cpu(4, -1);
  for (int round = 0; round < 5; ++round) {
    // libgomp ends the surplus threads here and starts unpinned ones below.
    std::atomic<int> foreign{0};
#pragma omp parallel num_threads(2)
    foreign.fetch_add(1);
    team.Run([&](const Worker& worker) {
      worker.Barrier();
      cpu[static_cast<size_t>(worker.index)] = ::sched_getcpu();
    });
    if (team.pinned()) REQUIRE(cpu == team.cpus());
  }
  CHECK(omp_get_max_threads() == 4);  // what a library on the engine thread would use
}
#endif

TEST_CASE("the engine thread gets its affinity back") {
  const std::vector<int> before = ThisThreadCpus();
  {
    ThreadTeam team(CrowdedPlaces(1));
    team.Run([](const Worker&) {});
    if (team.pinned()) CHECK(ThisThreadCpus().size() == 1);
    std::vector<int> child;
    std::thread([&] {
      UnbindThisThread();
      child = ThisThreadCpus();
    }).join();
    CHECK(child == ProcessCpus());
    // A second team built while the first holds the thread still sees the whole process.
    ThreadTeam second(0);
    second.Run([](const Worker&) {});
  }
  CHECK(ThisThreadCpus() == before);
}

TEST_CASE("an unpinned team floats over all CPUs") {
  ThreadTeam team(1, false);
  CHECK_FALSE(team.pinned());
  std::vector<int> cpus;
  team.Run([&](const Worker&) { cpus = ThisThreadCpus(); });
  CHECK(cpus == ProcessCpus());
}

TEST_CASE("nodes of given places reach the workers") {
  ThreadTeam team(CrowdedPlaces(4));
  std::vector<int> node(4, -1);
  team.Run([&](const Worker& worker) { node[static_cast<size_t>(worker.index)] = worker.node; });
  CHECK(node == std::vector<int>{0, 0, 1, 1});
  CHECK(team.partition().n_nodes() == 2);
  CHECK(team.partition().n_workers(1) == 2);
}

TEST_CASE("too many threads and foreign CPUs are refused") {
  CHECK_THROWS_AS(ThreadTeam(static_cast<int>(ProcessCpus().size()) + 1), std::runtime_error);
  CHECK_THROWS_AS(ThreadTeam(-1), std::runtime_error);
  CHECK_THROWS_AS(ThreadTeam({{.cpu = 8000, .node = 0}}), std::runtime_error);
}

}  // namespace
}  // namespace stoker
