#pragma once

// How large and how many the reads of a drive should be, measured once per drive and kept: virtual
// disks want few large ones, fast NVMe drives many. Not thread-safe.

#include <filesystem>
#include <span>
#include <string>

#include "experts/pager.h"

namespace stoker {

struct DeviceTuning {
  // Of what was not measured: an NVMe drive.
  static constexpr double kDefaultRate = 3e9;

  PagerOptions pager;
  double bytes_per_second = kDefaultRate;  // with these
  std::string source;  // for verbose output: "measured in 900 ms", or the file it was found in
};

// The piece size with which the drive of `files` is fastest, the fewest pieces in flight that keep
// it so while they are waited for, and enough of them for 50 ms in which nobody looks. Of several
// drives the largest of each, and the sum of their rates. Defaults for drives without a file of
// kMinDiskProbeBytes, backends other than io_uring, and where a read fails. From `directory` where
// it has them; measured otherwise, by reads of about a second for each drive, or 704 MiB of a
// slower one, and written there.
DeviceTuning TuneDevices(std::span<const PagerFile> files, IoBackend backend,
                         const std::filesystem::path& directory);

}  // namespace stoker
