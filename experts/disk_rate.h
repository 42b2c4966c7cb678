#pragma once

// How fast a file can be read past the page cache, in extents of a matrix's size at random places:
// the disk ceiling. Uses the very pagers the expert cache uses. Not thread-safe.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "experts/pager.h"

namespace stoker {

inline constexpr uint64_t kDiskProbeMemory = uint64_t{64} << 20;  // that the measurement takes
inline constexpr uint64_t kMinDiskProbeBytes = uint64_t{64} << 20;

struct DiskProbe {
  IoBackend backend = IoBackend::kAuto;
  double seconds = 0.7;
  PagerOptions pager = {};
  std::function<bool()> stop = {};  // asked now and then; may be empty
};

struct DiskRate {
  double bytes_per_second = 0;
  uint64_t bytes = 0;
  double seconds = 0;
  std::string method;  // Pager::Describe
};

// Reads 16 MiB extents for about probe.seconds. `path` is a file of at least 64 MiB, or a directory
// whose largest file is taken. Throws std::runtime_error for anything else and for failed reads.
DiskRate MeasureDiskRate(const std::filesystem::path& path, const DiskProbe& probe);

}  // namespace stoker
