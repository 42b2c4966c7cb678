#include "experts/disk_rate.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "numa/bytes.h"
#include "numa/node_buffer.h"

namespace stoker {
namespace {

constexpr size_t kInFlight = 4;    // extents, for each drive
constexpr size_t kMostDrives = 4;  // that get so many; of more each gets one at least

std::filesystem::path FileToRead(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return path;
  std::filesystem::path largest;
  uint64_t most = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.is_regular_file() && entry.file_size() > most) {
      most = entry.file_size();
      largest = entry.path();
    }
  }
  if (largest.empty())
    throw std::runtime_error(path.string() + ": no file to read in this directory");
  return largest;
}

// Which file an extent is read from: any of a drive's, the larger the likelier.
struct Source {
  std::vector<uint32_t> files;
  std::vector<uint64_t> ends;  // running sums of their bytes
};

std::vector<Source> SourcesOf(std::span<const Drive> drives, std::span<const PagerFile> files) {
  std::vector<Source> sources;
  for (const Drive& drive : drives) {
    Source source;
    uint64_t end = 0;
    for (const uint32_t f : drive.files) {
      if (files[f].bytes < kMinDiskProbeBytes) continue;
      source.files.push_back(f);
      source.ends.push_back(end += files[f].bytes);
    }
    if (!source.files.empty()) sources.push_back(std::move(source));
  }
  return sources;
}

void AddToDrive(std::vector<Drive>& drives, const std::filesystem::path& path,
                std::optional<uint32_t> file) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return;  // who opens it says why not
  auto drive = std::find_if(drives.begin(), drives.end(),
                            [&](const Drive& d) { return d.device == info.st_dev; });
  if (drive == drives.end()) {
    drive = drives.emplace(drives.end());
    drive->device = info.st_dev;
  }
  if (file) drive->files.push_back(*file);
  if (static_cast<uint64_t>(info.st_size) <= drive->largest_bytes) return;
  drive->largest = path;
  drive->largest_bytes = static_cast<uint64_t>(info.st_size);
}

}  // namespace

std::vector<Drive> DrivesOf(std::span<const PagerFile> files) {
  std::vector<Drive> drives;
  for (uint32_t f = 0; f < files.size(); ++f) {
    AddToDrive(drives, files[f].path, f);
    for (const std::filesystem::path& mirror : files[f].mirrors) {
      AddToDrive(drives, mirror, std::nullopt);
    }
  }
  return drives;
}

std::optional<DiskRate> MeasureDiskRate(std::span<const PagerFile> files, const DiskProbe& probe) {
  const std::vector<Drive> drives = DrivesOf(files);
  const std::vector<Source> sources = SourcesOf(drives, files);
  if (sources.empty()) return std::nullopt;
  const size_t n_extents =
      std::max(sources.size(), kInFlight * std::min(drives.size(), kMostDrives));
  const uint64_t extent_bytes = kDiskProbeMemory / n_extents / kMiB * kMiB;
  NodeBuffer memory = NodeBuffer::Allocate(n_extents * extent_bytes, "disk probe");
  // Outlived by its memory, whose reads it waits for.
  const std::unique_ptr<Pager> pager = MakePager(probe.backend, files, probe.pager);
  std::fill(memory.span().begin(), memory.span().end(), std::byte{1});  // touched before timing
  pager->RegisterMemory(memory.span());

  std::mt19937_64 random(1);
  const auto submit = [&](uint64_t slot) {
    const Source& source = sources[slot % sources.size()];
    const uint64_t at = random() % source.ends.back();
    const auto end = std::upper_bound(source.ends.begin(), source.ends.end(), at);
    const uint32_t file = source.files[static_cast<size_t>(end - source.ends.begin())];
    const uint64_t offset = random() % ((files[file].bytes - extent_bytes) / kMiB + 1) * kMiB;
    const ReadRequest request{file, offset, extent_bytes, memory.data() + slot * extent_bytes,
                              slot};
    pager->Submit({&request, 1});
    pager->FillQueues();
  };
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  for (uint64_t slot = 0; slot < n_extents; ++slot) submit(slot);
  DiskRate rate;
  std::vector<ReadCompletion> done(n_extents);
  while (pager->pending() > 0) {
    const size_t n = pager->Reap(done, /*wait=*/true);
    for (const ReadCompletion& completion : std::span(done).first(n)) {
      if (completion.status != ReadStatus::kOk) {
        throw std::runtime_error(ReadErrorMessage(files[completion.file].path, completion));
      }
      rate.bytes += extent_bytes;
      if (elapsed() < probe.seconds && !(probe.stop && probe.stop())) submit(completion.tag);
    }
  }
  rate.seconds = elapsed();
  rate.bytes_per_second = static_cast<double>(rate.bytes) / rate.seconds;
  rate.method = pager->Describe();
  return rate;
}

DiskRate MeasureDiskRate(const std::filesystem::path& path, const DiskProbe& probe) {
  const std::filesystem::path file = FileToRead(path);
  const uint64_t bytes = std::filesystem::file_size(file);
  const PagerFile only{file, bytes, -1, {}};
  if (const std::optional<DiskRate> rate = MeasureDiskRate({&only, 1}, probe)) return *rate;
  throw std::runtime_error(file.string() + ": " + FormatBytes(bytes) +
                           " is too small to measure a disk with; name a file of " +
                           FormatBytes(kMinDiskProbeBytes) + " or more");
}

}  // namespace stoker
