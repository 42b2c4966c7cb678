#include "experts/device_tuning.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <exception>
#include <optional>
#include <vector>

#include "experts/disk_rate.h"
#include "mmap/kept_values.h"
#include "numa/bytes.h"
#include "numa/system_files.h"

namespace stoker {
namespace {

constexpr std::array<uint64_t, 4> kPieceMiB = {1, 2, 4, 8};
constexpr std::array<uint32_t, 6> kDepths = {1, 2, 4, 8, 16, 32};
constexpr uint32_t kManyPieces = 16;
constexpr double kSecondsEach = 0.06;
// Rates of the same drive differ by some per cent from one moment to the next.
constexpr double kAsGood = 0.95;
// How long computing may keep us from looking for completions.
constexpr double kSecondsAway = 0.05;
constexpr uint32_t kMostInFlight = 256;
constexpr int64_t kMostMega = 10'000'000;

// Counts up when what is kept changes its meaning.
constexpr int kFormat = 2;

// "259:1 Samsung SSD 990 PRO 4TB 3907029168"; the numbers alone where /sys has no more.
std::string DeviceName(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return "unknown";
  const std::string number =
      std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
  const std::filesystem::path device = "/sys/dev/block/" + number;
  std::string model = FirstLine(device / "device/model");
  if (model.empty()) model = FirstLine(device / "../device/model");  // of a partition
  return number + " " + model + " " + FirstLine(device / "size");
}

double Rate(const std::filesystem::path& file, IoBackend backend, uint64_t piece_bytes,
            uint32_t depth) {
  DiskProbe probe;
  probe.backend = backend;
  probe.seconds = kSecondsEach;
  probe.pager.piece_bytes = piece_bytes;
  probe.pager.depth = depth;
  probe.pager.waiting_depth = depth;
  return MeasureDiskRate(file, probe).bytes_per_second;
}

// The first that is as good as the best.
size_t FirstAsGood(const std::vector<double>& rates) {
  const double best = *std::max_element(rates.begin(), rates.end());
  return static_cast<size_t>(
      std::find_if(rates.begin(), rates.end(), [best](double r) { return r >= kAsGood * best; }) -
      rates.begin());
}

DeviceTuning Measure(const std::filesystem::path& file, IoBackend backend) {
  Rate(file, backend, kPieceMiB.front() * kMiB, kManyPieces);  // wakes the drive up
  std::vector<double> rates;
  for (const uint64_t piece : kPieceMiB) {
    rates.push_back(Rate(file, backend, piece * kMiB, kManyPieces));
  }
  DeviceTuning tuning;
  PagerOptions& options = tuning.pager;
  options.piece_bytes = kPieceMiB[FirstAsGood(rates)] * kMiB;
  rates.clear();
  for (const uint32_t depth : kDepths) {
    rates.push_back(Rate(file, backend, options.piece_bytes, depth));
  }
  const size_t chosen = FirstAsGood(rates);
  // One more step than barely enough: the caller is not always there at once.
  options.waiting_depth = kDepths[std::min(chosen + 1, kDepths.size() - 1)];
  const double away =
      std::ceil(rates[chosen] * kSecondsAway / static_cast<double>(options.piece_bytes));
  options.depth =
      std::clamp(static_cast<uint32_t>(std::min(away, 1e6)), options.waiting_depth, kMostInFlight);
  tuning.bytes_per_second = rates[chosen];
  return tuning;
}

DeviceTuning TuneDrive(const std::filesystem::path& file, IoBackend backend,
                       const std::filesystem::path& directory) {
  DeviceTuning result;
  const std::string device = DeviceName(file);
  const std::string number = device.substr(0, device.find(' '));
  std::string name = "disk-" + number + ".txt";
  std::replace(name.begin(), name.end(), ':', '-');
  KeptValues kept(directory.empty() ? directory : directory / name,
                  "stoker disk " + std::to_string(kFormat) + "; " + device);
  const std::optional<int64_t> piece = kept.Find("piece_mib", 1, 64);
  const std::optional<int64_t> waiting = kept.Find("waiting_depth", 1, kMostInFlight);
  const std::optional<int64_t> depth = kept.Find("depth", 1, kMostInFlight);
  const std::optional<int64_t> mega = kept.Find("mb_per_s", 1, kMostMega);
  if (piece && waiting && depth && mega) {
    result.pager.piece_bytes = static_cast<uint64_t>(*piece) * kMiB;
    result.pager.waiting_depth = static_cast<uint32_t>(*waiting);
    result.pager.depth = static_cast<uint32_t>(*depth);
    result.bytes_per_second = static_cast<double>(*mega) * 1e6;
    result.source = kept.path().string();
    return result;
  }
  const auto start = std::chrono::steady_clock::now();
  try {
    result = Measure(file, backend);
  } catch (const std::exception& error) {
    // The same place may never be needed; who needs it will hear of it.
    result.source = "defaults, measuring failed: " + std::string(error.what());
    return result;
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  result.source = "measured in " + std::to_string(took.count()) + " ms";
  kept.Set("piece_mib", static_cast<int64_t>(result.pager.piece_bytes / kMiB));
  kept.Set("waiting_depth", result.pager.waiting_depth);
  kept.Set("depth", result.pager.depth);
  kept.Set("mb_per_s",
           std::clamp(static_cast<int64_t>(result.bytes_per_second / 1e6), int64_t{1}, kMostMega));
  kept.Keep();
  return result;
}

}  // namespace

DeviceTuning TuneDevices(std::span<const PagerFile> files, IoBackend backend,
                         const std::filesystem::path& directory) {
  DeviceTuning all;
  if (backend == IoBackend::kUring) {
    for (const Drive& drive : DrivesOf(files)) {
      if (drive.largest_bytes < kMinDiskProbeBytes) continue;
      DeviceTuning one = TuneDrive(drive.largest, backend, directory);
      if (all.source.empty()) {
        all = std::move(one);
        continue;
      }
      all.pager.piece_bytes = std::max(all.pager.piece_bytes, one.pager.piece_bytes);
      all.pager.depth = std::max(all.pager.depth, one.pager.depth);
      all.pager.waiting_depth = std::max(all.pager.waiting_depth, one.pager.waiting_depth);
      all.bytes_per_second += one.bytes_per_second;
      all.source += "; " + one.source;
    }
  }
  if (all.source.empty()) all.source = "defaults";
  return all;
}

}  // namespace stoker
