#include "numa/bandwidth.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/cpu_features.h"
#include "numa/thread_team.h"
#include "numa/topology.h"

namespace stoker {
namespace {

constexpr int64_t kLineBytes = 64;
// Shares begin on huge pages: then every worker reads exactly the pages that it touched first.
constexpr int64_t kShareGrainBytes = 2 * static_cast<int64_t>(kMiB);

// One cache line; the compiler splits it where registers are narrower.
typedef uint64_t Line __attribute__((vector_size(64), may_alias));

// The exclusive or of all lines: the cheapest use of the loads that keeps them alive. Eight
// accumulators, because one would wait for itself.
inline __attribute__((always_inline)) uint64_t XorLines(const std::byte* data, int64_t bytes) {
  constexpr int64_t kUnroll = 8;
  const auto* lines = reinterpret_cast<const Line*>(data);
  const int64_t n = bytes / kLineBytes;
  Line sums[kUnroll] = {};
  int64_t i = 0;
  for (; i + kUnroll <= n; i += kUnroll) {
    for (int64_t j = 0; j < kUnroll; ++j) sums[j] ^= lines[i + j];
  }
  for (; i < n; ++i) sums[0] ^= lines[i];
  for (int64_t j = 1; j < kUnroll; ++j) sums[0] ^= sums[j];
  uint64_t result = 0;
  for (int k = 0; k < 8; ++k) result ^= sums[0][k];
  return result;
}

__attribute__((target("avx512f"))) uint64_t XorAvx512(const std::byte* data, int64_t bytes) {
  return XorLines(data, bytes);
}
__attribute__((target("avx2"))) uint64_t XorAvx2(const std::byte* data, int64_t bytes) {
  return XorLines(data, bytes);
}
uint64_t XorBaseline(const std::byte* data, int64_t bytes) { return XorLines(data, bytes); }

using XorFn = uint64_t (*)(const std::byte*, int64_t);

// The ceiling is the machine's, so STOKER_ISA has no say here.
XorFn WidestLoads() {
  switch (CpuFeatures::Detect().best_level()) {
    case IsaLevel::kAvx512:
      return XorAvx512;
    case IsaLevel::kAvx2:
      return XorAvx2;
    case IsaLevel::kScalar:
      break;
  }
  return XorBaseline;
}

}  // namespace

uint64_t ProbeBytes(const Topology& topology, uint64_t usable_bytes) {
  uint64_t cache_bytes = 0;
  for (const Topology::L3Domain& domain : topology.l3_domains) cache_bytes += domain.cache_bytes;
  const uint64_t wanted = std::max(3 * cache_bytes, 3 * kGiB / 2);
  return AlignDown(std::min(wanted, usable_bytes / 4), uint64_t{kShareGrainBytes});
}

NodeBuffer MakeProbeBuffer(ThreadTeam& team, uint64_t bytes, int node) {
  NodeBuffer buffer = NodeBuffer::Allocate(bytes, "the bandwidth probe", node);
  team.Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(static_cast<int64_t>(bytes), kShareGrainBytes);
    for (int64_t at = begin; at + 8 <= end; at += 8) {
      // Weyl sequence: no two words alike for 2^64 steps.
      StoreLe<uint64_t>(buffer.data() + at, static_cast<uint64_t>(at) * 0x9e3779b97f4a7c15U);
    }
  });
  return buffer;
}

std::vector<double> MeasureLocalBandwidth(ThreadTeam& team, const std::vector<int>& os_nodes,
                                          uint64_t bytes) {
  using Clock = std::chrono::steady_clock;
  constexpr int kPasses = 5;
  const size_t n = os_nodes.size();
  STOKER_CHECK(n == static_cast<size_t>(team.partition().n_nodes()));
  const uint64_t node_bytes = AlignDown(bytes / n, uint64_t{kShareGrainBytes});
  STOKER_CHECK(node_bytes > 0);
  std::vector<NodeBuffer> buffers;
  for (const int os_node : os_nodes) {
    buffers.push_back(NodeBuffer::Allocate(node_bytes, "the bandwidth probe", os_node));
  }
  const XorFn read = WidestLoads();
  std::vector<std::array<double, kPasses>> samples(n);
  std::atomic<uint64_t> sink{0};
  team.Run([&](const Worker& worker) {
    const auto node = static_cast<size_t>(worker.node);
    const Worker local = worker.OnNode();
    const auto [begin, end] = local.Share(static_cast<int64_t>(node_bytes), kShareGrainBytes);
    std::byte* const data = buffers[node].data();
    for (int64_t at = begin; at + 8 <= end; at += 8) {
      StoreLe<uint64_t>(data + at, static_cast<uint64_t>(at) * 0x9e3779b97f4a7c15U);
    }
    worker.Barrier();
    for (int pass = 0; pass < kPasses; ++pass) {
      local.Barrier();
      const Clock::time_point start = Clock::now();
      const uint64_t sum = read(data + begin, end - begin);
      local.Barrier();
      sink.fetch_xor(sum, std::memory_order_relaxed);
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (local.index == 0) {
        samples[node][static_cast<size_t>(pass)] =
            static_cast<double>(node_bytes) / std::max(seconds, 1e-9);
      }
    }
  });
  std::vector<double> result;
  for (std::array<double, kPasses>& of_node : samples) {
    std::sort(of_node.begin(), of_node.end());
    result.push_back(of_node[kPasses / 2]);
  }
  const auto [least, most] = std::minmax_element(result.begin(), result.end());
  if (*least > 0.9 * *most) std::fill(result.begin(), result.end(), double{*most});
  return result;
}

ReadBandwidth MeasureReadBandwidth(ThreadTeam& team, std::span<const std::byte> buffer,
                                   int passes) {
  STOKER_CHECK(passes > 0);
  STOKER_CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % kLineBytes == 0);
  using Clock = std::chrono::steady_clock;
  const auto bytes = AlignDown(static_cast<uint64_t>(buffer.size()), uint64_t{kLineBytes});
  const XorFn read = WidestLoads();

  ReadBandwidth result;
  result.bytes = bytes;
  result.samples.reserve(static_cast<size_t>(passes));
  std::atomic<uint64_t> sink{0};
  team.Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(static_cast<int64_t>(bytes), kShareGrainBytes);
    for (int pass = -1; pass < passes; ++pass) {
      worker.Barrier();
      const Clock::time_point start = Clock::now();
      const uint64_t sum = read(buffer.data() + begin, end - begin);
      worker.Barrier();
      sink.fetch_xor(sum, std::memory_order_relaxed);
      if (worker.index != 0 || pass < 0) continue;
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      result.samples.push_back(static_cast<double>(bytes) / std::max(seconds, 1e-9));
    }
  });

  std::vector<double> sorted = result.samples;
  std::sort(sorted.begin(), sorted.end());
  result.lowest = sorted.front();
  result.highest = sorted.back();
  const size_t middle = sorted.size() / 2;
  result.bytes_per_second =
      sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return result;
}

}  // namespace stoker
