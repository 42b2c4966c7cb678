#pragma once

// How fast files can be read past the page cache, in extents of a matrix's size at random places:
// the disk ceiling. Uses the very pagers the expert cache uses. Not thread-safe.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experts/pager.h"

namespace stoker {

inline constexpr uint64_t kDiskProbeMemory = uint64_t{64} << 20;  // that the measurement takes
inline constexpr uint64_t kMinDiskProbeBytes = uint64_t{64} << 20;

// A drive (a file system, by st_dev) that holds some of a list of files, or mirrors of them.
struct Drive {
  uint64_t device = 0;
  std::vector<uint32_t> files;    // indices of those that lie here themselves
  std::filesystem::path largest;  // of files and mirrors here
  uint64_t largest_bytes = 0;
};

std::vector<Drive> DrivesOf(std::span<const PagerFile> files);

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

// Reads extents of 16 MiB (less where there are several drives) for about probe.seconds, from every
// drive that has one of `files` or of their mirrors, all of them at once: what a model spread over
// drives can get. nullopt where no file has kMinDiskProbeBytes. Throws std::runtime_error for
// failed reads.
std::optional<DiskRate> MeasureDiskRate(std::span<const PagerFile> files, const DiskProbe& probe);

// The same of one file, or of the largest in a directory. Throws std::runtime_error where it is too
// small.
DiskRate MeasureDiskRate(const std::filesystem::path& path, const DiskProbe& probe);

}  // namespace stoker
