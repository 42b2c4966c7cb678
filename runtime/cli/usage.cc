#include "runtime/cli/usage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "experts/disk_rate.h"
#include "numa/bandwidth.h"
#include "numa/bytes.h"
#include "numa/memory_limits.h"
#include "numa/topology.h"
#include "runtime/cli/interrupt.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kSectorBytes = 512;  // of /sys/dev/block/*/stat, whatever the drive has

struct rusage ProcessUsage() {
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage;
}

// Bytes this process has had read from block devices.
std::optional<uint64_t> ProcessReadBytes() {
  std::ifstream file("/proc/self/io");
  std::string key;
  uint64_t value = 0;
  while (file >> key >> value) {
    if (key == "read_bytes:") return value;
  }
  return std::nullopt;
}

// The statistics file of each block device under the model's files; empty when one has none.
std::vector<std::filesystem::path> DeviceStats(const WeightStore& store) {
  std::vector<std::filesystem::path> paths;
  for (uint32_t f = 0; f < store.files().size(); ++f) {
    struct stat info = {};
    if (::fstat(store.fd(f), &info) != 0) return {};
    const std::filesystem::path path =
        fmt::format("/sys/dev/block/{}:{}/stat", major(info.st_dev), minor(info.st_dev));
    if (!std::filesystem::exists(path)) return {};
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
  }
  return paths;
}

std::optional<uint64_t> DeviceReadBytes(const std::vector<std::filesystem::path>& stats) {
  if (stats.empty()) return std::nullopt;
  uint64_t total = 0;
  for (const std::filesystem::path& path : stats) {
    std::ifstream file(path);
    uint64_t reads = 0, merged = 0, sectors = 0;
    if (!(file >> reads >> merged >> sectors)) return std::nullopt;
    total += sectors * kSectorBytes;
  }
  return total;
}

CacheStats Minus(CacheStats a, const CacheStats& b) {
  a.hits -= b.hits;
  a.late_hits -= b.late_hits;
  a.misses -= b.misses;
  a.evictions -= b.evictions;
  a.failed_reads -= b.failed_reads;
  a.streamed -= b.streamed;
  a.bytes_read -= b.bytes_read;
  a.stall_ns -= b.stall_ns;
  a.prefetch_used -= b.prefetch_used;
  a.prefetch_used_bytes -= b.prefetch_used_bytes;
  a.prefetch_wasted -= b.prefetch_wasted;
  a.prefetch_wasted_bytes -= b.prefetch_wasted_bytes;
  a.resting_requests -= b.resting_requests;
  a.pager.requests -= b.pager.requests;
  a.pager.failed -= b.pager.failed;
  a.pager.reads -= b.pager.reads;
  a.pager.bytes_read -= b.pager.bytes_read;
  a.pager.short_reads -= b.pager.short_reads;
  a.pager.retries -= b.pager.retries;
  a.pager.failovers -= b.pager.failovers;
  a.pager.unregistered -= b.pager.unregistered;
  a.pager.reading_ns -= b.pager.reading_ns;
  return a;
}

std::optional<uint64_t> Minus(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  if (!a || !b) return std::nullopt;
  return *a - *b;
}

}  // namespace

Usage operator-(const Usage& after, const Usage& before) {
  Usage usage = after;
  usage.seconds -= before.seconds;
  usage.system_seconds -= before.system_seconds;
  usage.wait_seconds -= before.wait_seconds;
  usage.cache = Minus(after.cache, before.cache);
  usage.major_faults -= before.major_faults;
  usage.process_read_bytes = Minus(after.process_read_bytes, before.process_read_bytes);
  usage.device_read_bytes = Minus(after.device_read_bytes, before.device_read_bytes);
  return usage;
}

UsageMeter::UsageMeter(Engine& engine)
    : engine_(engine),
      device_stats_(DeviceStats(engine.store())),
      start_(std::chrono::steady_clock::now()) {}

Usage UsageMeter::Read() const {
  Usage usage;
  usage.paged = engine_.cache() != nullptr;
  usage.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  usage.wait_seconds = engine_.model().stats().expert_wait_seconds;
  if (usage.paged) usage.cache = engine_.cache()->stats();
  const struct rusage process = ProcessUsage();
  usage.major_faults = process.ru_majflt;
  usage.system_seconds = static_cast<double>(process.ru_stime.tv_sec) +
                         static_cast<double>(process.ru_stime.tv_usec) / 1e6;
  usage.process_read_bytes = ProcessReadBytes();
  usage.device_read_bytes = DeviceReadBytes(device_stats_);
  return usage;
}

std::string UsageLine(const Usage& usage, int64_t tokens) {
  if (!usage.paged || tokens <= 0) return "";
  const auto per_token = static_cast<double>(tokens);
  std::string line = fmt::format(
      "paged: {:.1f} % of {} expert uses hit, {:.1f} MB per token from disk, waiting {:.0f} % of "
      "the time",
      100 * usage.hit_rate(), usage.cache.hits + usage.cache.misses,
      static_cast<double>(usage.cache.pager.bytes_read) / per_token / 1e6,
      usage.seconds > 0 ? 100 * usage.wait_seconds / usage.seconds : 0.0);
  if (usage.cache.pager.reading_ns > 0) {
    line += fmt::format(", {:.2f} GB/s while reading",
                        usage.cache.pager.reading_bytes_per_s() / 1e9);
  }
  if (usage.device_read_bytes) {
    line += fmt::format(" (device counted {:.1f} MB)",
                        static_cast<double>(*usage.device_read_bytes) / per_token / 1e6);
  }
  if (usage.cache.prefetch_used + usage.cache.prefetch_wasted > 0) {
    line += fmt::format("; prefetched {} used, {} wasted ({:.1f} MB ahead, {:.1f} MB for nothing)",
                        usage.cache.prefetch_used, usage.cache.prefetch_wasted,
                        static_cast<double>(usage.cache.prefetch_used_bytes) / 1e6,
                        static_cast<double>(usage.cache.prefetch_wasted_bytes) / 1e6);
  }
  line += fmt::format("; {} major faults", usage.major_faults);
  return line;
}

Ceilings MeasureCeilings(Engine& engine) {
  constexpr int kPasses = 3;
  constexpr double kDiskSeconds = 1.0;
  Ceilings ceilings;
  {
    const NodeBuffer probe =
        MakeProbeBuffer(engine.team(), ProbeBytes(Topology::Detect(), UsableMemoryBytes()));
    ceilings.read_bytes_per_s =
        MeasureReadBandwidth(engine.team(), probe.span(), kPasses).bytes_per_second;
  }
  ceilings.disk_bytes_per_s = MeasureDiskCeiling(engine, kDiskSeconds);
  return ceilings;
}

std::optional<double> MeasureDiskCeiling(Engine& engine, double seconds) {
  if (engine.cache() == nullptr) return std::nullopt;
  const std::optional<DiskRate> rate =
      MeasureDiskRate(PagerFiles(engine.store(), engine.options().mirror_dirs),
                      {.backend = engine.cache()->pager().backend(),
                       .seconds = seconds,
                       .pager = engine.pager_options(),
                       .stop = [] { return InterruptFlag().load(); }});
  return rate ? std::optional(rate->bytes_per_second) : std::nullopt;
}

Roofs RoofsFor(uint64_t weight_bytes_per_token, const Usage& usage, int64_t tokens,
               const Ceilings& ceilings) {
  Roofs roofs;
  roofs.memory_ts = ceilings.read_bytes_per_s / static_cast<double>(weight_bytes_per_token);
  if (usage.paged && usage.cache.bytes_read > 0 && ceilings.disk_bytes_per_s) {
    roofs.disk_ts = *ceilings.disk_bytes_per_s * static_cast<double>(tokens) /
                    static_cast<double>(usage.cache.bytes_read);
  }
  return roofs;
}

Json UsageJson(const Usage& usage, int64_t tokens) {
  const auto optional = [](std::optional<uint64_t> v) { return v ? Json(*v) : Json(nullptr); };
  const auto per_token = [tokens](uint64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(tokens, 1));
  };
  Json json = {{"seconds", usage.seconds},
               {"major_faults", usage.major_faults},
               {"wait_seconds", usage.wait_seconds},
               {"process_read_bytes", optional(usage.process_read_bytes)},
               {"disk_bytes_per_token", usage.process_read_bytes
                                            ? Json(per_token(*usage.process_read_bytes))
                                            : Json(nullptr)},
               {"device_read_bytes", optional(usage.device_read_bytes)}};
  if (!usage.paged) return json;
  const CacheStats& cache = usage.cache;
  json.update({{"hits", cache.hits},
               {"misses", cache.misses},
               {"hit_rate", usage.hit_rate()},
               {"expert_bytes_read", cache.bytes_read},
               {"pager_bytes", cache.pager.bytes_read},
               {"pager_bytes_per_token", per_token(cache.pager.bytes_read)},
               {"evictions", cache.evictions},
               {"streamed_requests", cache.streamed},
               {"reading_seconds", static_cast<double>(cache.pager.reading_ns) * 1e-9},
               {"retries", cache.pager.retries},
               {"failovers", cache.pager.failovers},
               {"short_reads", cache.pager.short_reads},
               {"prefetch_used", cache.prefetch_used},
               {"prefetch_used_bytes", cache.prefetch_used_bytes},
               {"prefetch_wasted", cache.prefetch_wasted},
               {"prefetch_wasted_bytes", cache.prefetch_wasted_bytes},
               {"prefetch_resting_requests", cache.resting_requests}});
  return json;
}

Json RoofsJson(const Roofs& roofs, const Ceilings& ceilings, double ts) {
  const auto optional = [](std::optional<double> v) { return v ? Json(*v) : Json(nullptr); };
  return {{"read_ceiling_bytes_per_s", ceilings.read_bytes_per_s},
          {"disk_ceiling_bytes_per_s", optional(ceilings.disk_bytes_per_s)},
          {"memory_roof_ts", roofs.memory_ts},
          {"disk_roof_ts", optional(roofs.disk_ts)},
          {"binding", roofs.disk_ts && *roofs.disk_ts < roofs.memory_ts ? "disk" : "memory"},
          {"fraction", roofs.binding() > 0 ? ts / roofs.binding() : 0.0}};
}

Json GuessesJson(const PrefetchGovernor& governor) {
  Json layers = Json::array();
  for (const GuessAccuracy& a : governor.accuracy()) {
    layers.push_back({{"guessed", a.guessed},
                      {"right", a.right},
                      {"early_guessed", a.early_guessed},
                      {"early_right", a.early_right}});
  }
  return layers;
}

std::optional<uint64_t> PageCacheBytes(const WeightStore& store) {
  constexpr uint64_t kWindow = uint64_t{1} << 30;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> resident(kWindow / page);
  uint64_t pages = 0;
  for (uint32_t f = 0; f < store.files().size(); ++f) {
    for (uint64_t at = 0; at < store.files()[f].bytes; at += kWindow) {
      const uint64_t bytes = std::min(kWindow, store.files()[f].bytes - at);
      void* map =
          ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, store.fd(f), static_cast<off_t>(at));
      if (map == MAP_FAILED) return std::nullopt;
      const bool known = ::mincore(map, bytes, resident.data()) == 0;
      ::munmap(map, bytes);
      if (!known) return std::nullopt;
      for (uint64_t i = 0; i < DivCeil(bytes, page); ++i) pages += resident[i] & 1U;
    }
  }
  return pages * page;
}

}  // namespace stoker
