#pragma once

// What a stretch of work used, beyond time: expert hits and misses, bytes from disk by three
// accounts (ours, the process's, the block device's), waiting, reads on speculation, page faults.
// A meter takes readings; the difference of two is the usage in between. Main thread only.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace stoker {

// A reading, or the difference of two.
struct Usage {
  bool paged = false;
  double seconds = 0;
  double system_seconds = 0;                   // CPU time in the kernel
  double wait_seconds = 0;                     // the forward pass stood still for expert bytes
  CacheStats cache;                            // zero unless paged
  int64_t major_faults = 0;                    // of the process
  std::optional<uint64_t> process_read_bytes;  // /proc/self/io; nullopt where it does not say
  std::optional<uint64_t> device_read_bytes;   // /sys/dev/block, all devices under the files

  double hit_rate() const {
    const uint64_t uses = cache.hits + cache.misses;
    return uses == 0 ? 0.0 : static_cast<double>(cache.hits) / static_cast<double>(uses);
  }
};

Usage operator-(const Usage& after, const Usage& before);

class UsageMeter {
 public:
  explicit UsageMeter(Engine& engine);
  Usage Read() const;

 private:
  Engine& engine_;
  std::vector<std::filesystem::path> device_stats_;  // empty where a file is on no block device
  const std::chrono::steady_clock::time_point start_;
};

// "paged: 61.2 % of 800 expert uses hit, 312.0 MB per token from disk, waiting 41 % of the time;
// ..." for `tokens` tokens; "" unless paged.
std::string UsageLine(const Usage& usage, int64_t tokens);

// What memory and disk can give, measured in this process.
struct Ceilings {
  double read_bytes_per_s = 0;                  // plain read loop over memory
  std::optional<double> disk_bytes_per_s = {};  // direct reads of its drives; paged mode only
};
// Takes a second or two; uses what memory is free.
Ceilings MeasureCeilings(Engine& engine);

// Bytes per second that all drives of the model and its mirrors give together, measured for about
// `seconds`. nullopt unless the engine pages, and where all files are too small to measure with.
std::optional<double> MeasureDiskCeiling(Engine& engine, double seconds);

// Tokens per second at which memory, or the disk, would be busy all the time.
struct Roofs {
  double memory_ts = 0;
  std::optional<double> disk_ts;  // nullopt: nothing was read, or the ceiling is not known
  // The lower of the two.
  double binding() const { return disk_ts ? std::min(memory_ts, *disk_ts) : memory_ts; }
};
Roofs RoofsFor(uint64_t weight_bytes_per_token, const Usage& usage, int64_t tokens,
               const Ceilings& ceilings);

nlohmann::ordered_json UsageJson(const Usage& usage, int64_t tokens);
nlohmann::ordered_json RoofsJson(const Roofs& roofs, const Ceilings& ceilings, double ts);
// Accuracy of the router's early guesses, per layer: the first one and the last.
nlohmann::ordered_json GuessesJson(const PrefetchGovernor& governor);

// Of the model's files, bytes in the page cache; nullopt where the kernel does not say.
std::optional<uint64_t> PageCacheBytes(const WeightStore& store);

}  // namespace stoker
