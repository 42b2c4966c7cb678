#include "bench/read_loop.h"

#include <atomic>
#include <chrono>
#include <cstdint>

namespace stoker {
namespace {

// Eight independent sums over 128 bytes a step keep enough loads in flight for the memory; the
// result goes into an atomic so that the loop cannot be dropped.
uint64_t SumWords(const uint64_t* words, int64_t n) {
  uint64_t sums[16] = {};
  for (int64_t i = 0; i + 16 <= n; i += 16) {
    for (int s = 0; s < 16; ++s) sums[s] += words[i + s];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

std::atomic<uint64_t> sink;

}  // namespace

double TimeReadLoop(ThreadTeam& team, std::span<const std::byte> bytes) {
  const auto* words = reinterpret_cast<const uint64_t*>(bytes.data());
  const int64_t n = static_cast<int64_t>(bytes.size() / sizeof(uint64_t));
  const auto start = std::chrono::steady_clock::now();
  team.Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(n, 16);
    sink.fetch_add(SumWords(words + begin, end - begin), std::memory_order_relaxed);
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace stoker
