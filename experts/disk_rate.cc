#include "experts/disk_rate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>

#include "numa/bytes.h"
#include "numa/node_buffer.h"

namespace stoker {
namespace {

constexpr uint64_t kExtentBytes = 16 * kMiB;
constexpr size_t kInFlight = kDiskProbeMemory / kExtentBytes;

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

}  // namespace

DiskRate MeasureDiskRate(const std::filesystem::path& path, const DiskProbe& probe) {
  const std::filesystem::path file = FileToRead(path);
  const uint64_t file_bytes = std::filesystem::file_size(file);
  if (file_bytes < kMinDiskProbeBytes) {
    throw std::runtime_error(file.string() + ": " + FormatBytes(file_bytes) +
                             " is too small to measure a disk with; name a file of " +
                             FormatBytes(kMinDiskProbeBytes) + " or more");
  }
  const std::array<PagerFile, 1> files = {PagerFile{file, file_bytes, -1, {}}};
  const std::unique_ptr<Pager> pager = MakePager(probe.backend, files, probe.pager);
  NodeBuffer memory = NodeBuffer::Allocate(kInFlight * kExtentBytes, "disk probe");
  std::fill(memory.span().begin(), memory.span().end(), std::byte{1});  // touched before timing
  pager->RegisterMemory(memory.span());

  std::mt19937_64 random(1);
  const auto submit = [&](uint64_t slot) {
    const uint64_t offset = random() % ((file_bytes - kExtentBytes) / kMiB + 1) * kMiB;
    const ReadRequest request{0, offset, kExtentBytes, memory.data() + slot * kExtentBytes, slot};
    pager->Submit({&request, 1});
    pager->FillQueues();
  };
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  for (uint64_t slot = 0; slot < kInFlight; ++slot) submit(slot);
  DiskRate rate;
  std::array<ReadCompletion, kInFlight> done;
  while (pager->pending() > 0) {
    const size_t n = pager->Reap(done, /*wait=*/true);
    for (const ReadCompletion& completion : std::span(done).first(n)) {
      if (completion.status != ReadStatus::kOk)
        throw std::runtime_error(ReadErrorMessage(file, completion));
      rate.bytes += kExtentBytes;
      if (elapsed() < probe.seconds && !(probe.stop && probe.stop())) submit(completion.tag);
    }
  }
  rate.seconds = elapsed();
  rate.bytes_per_second = static_cast<double>(rate.bytes) / rate.seconds;
  rate.method = pager->Describe();
  return rate;
}

}  // namespace stoker
