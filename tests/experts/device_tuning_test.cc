// On the real disk: what is chosen lies in its range, is kept, and a foreign or damaged file is
// measured again; files on several drives count together.

#include "experts/device_tuning.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experts/disk_rate.h"
#include "experts/pager.h"
#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

PagerFile MakeFile(const std::filesystem::path& path, uint64_t bytes) {
  test::WriteFile(path, std::string(bytes, 'x'));
  return {path, bytes, -1, {}};
}

TEST_CASE("a drive is measured once") {
  const test::TempDir directory;
  const std::filesystem::path file = directory.path() / "data";
  const PagerFile pager_file = MakeFile(file, kMinDiskProbeBytes + kMiB);
  const IoBackend backend = MakePager(IoBackend::kAuto, {&pager_file, 1})->backend();
  if (backend != IoBackend::kUring) {
    WARN("no io_uring with direct I/O here: defaults");
    CHECK(TuneDevices({&pager_file, 1}, backend, directory.path()).source == "defaults");
    return;
  }
  const std::filesystem::path kept = directory.path() / "kept";
  const DeviceTuning first = TuneDevices({&pager_file, 1}, backend, kept);
  CHECK(first.source.starts_with("measured in "));
  CHECK(first.pager.piece_bytes >= kMiB);
  CHECK(first.pager.piece_bytes <= 8 * kMiB);
  CHECK(first.pager.waiting_depth >= 1);
  CHECK(first.pager.depth >= first.pager.waiting_depth);
  CHECK_NOTHROW(MakePager(backend, {&pager_file, 1}, first.pager));

  const std::filesystem::path path = std::filesystem::directory_iterator(kept)->path();
  const DeviceTuning second = TuneDevices({&pager_file, 1}, backend, kept);
  CHECK(second.source == path.string());
  CHECK(second.pager.piece_bytes == first.pager.piece_bytes);
  CHECK(second.pager.depth == first.pager.depth);
  CHECK(second.pager.waiting_depth == first.pager.waiting_depth);

  test::WriteFile(path, "of another drive\npiece_mib 2\ndepth 1\nwaiting_depth 1\n");
  CHECK(TuneDevices({&pager_file, 1}, backend, kept).source.starts_with("measured in "));
  CHECK(TuneDevices({&pager_file, 1}, backend, "").source.starts_with("measured in "));
}

TEST_CASE("small files and other backends have defaults") {
  const test::TempDir directory;
  const std::filesystem::path file = directory.path() / "data";
  test::WriteFile(file, "small");
  const PagerFile small{file, 5, -1, {}};
  CHECK(TuneDevices({&small, 1}, IoBackend::kUring, directory.path()).source == "defaults");
  CHECK(TuneDevices({&small, 1}, IoBackend::kPread, directory.path()).source == "defaults");
}

TEST_CASE("a model's small first file does not hide the drive") {
  const test::TempDir directory;
  const std::vector<PagerFile> files = {MakeFile(directory.path() / "1", kMiB),
                                        MakeFile(directory.path() / "2", kMinDiskProbeBytes)};
  const std::optional<DiskRate> rate = MeasureDiskRate(files, {.seconds = 0.05});
  REQUIRE(rate);
  CHECK(rate->bytes > 0);
  CHECK_FALSE(MeasureDiskRate(std::span(files).first(1), {.seconds = 0.05}));
  CHECK_THROWS_WITH(MeasureDiskRate(directory.path() / "1", {}), test::HasText("too small"));
}

TEST_CASE("several drives are tuned and measured together") {
  const test::TempDir here;
  const test::TempDir there("/dev/shm");
  const PagerFile a = MakeFile(here.path() / "a", kMinDiskProbeBytes + kMiB);
  const PagerFile b = MakeFile(there.path() / "b", kMinDiskProbeBytes);
  PagerFile copied = a;
  copied.mirrors = {there.path() / "a"};
  std::filesystem::copy_file(a.path, copied.mirrors.front());
  const std::vector<PagerFile> split = {a, b};

  const std::vector<Drive> drives = DrivesOf(split);
  if (drives.size() == 1) {
    WARN("skipped: /dev/shm is on the drive of temporary files");
    return;
  }
  REQUIRE(drives.size() == 2);
  CHECK(drives[0].files == std::vector<uint32_t>{0});
  CHECK(drives[1].files == std::vector<uint32_t>{1});
  CHECK(drives[1].largest == b.path);
  const std::vector<Drive> mirrored = DrivesOf({&copied, 1});
  REQUIRE(mirrored.size() == 2);
  CHECK(mirrored[1].files.empty());
  CHECK(mirrored[1].largest == copied.mirrors.front());

  try {
    MakePager(IoBackend::kUring, split);
  } catch (const std::exception& error) {
    WARN("skipped: no direct I/O on both drives: " << error.what());
    return;
  }
  const DiskProbe probe{.backend = IoBackend::kUring, .seconds = 0.05};
  for (const std::vector<PagerFile>& files : {split, std::vector<PagerFile>{copied}}) {
    CHECK(MeasureDiskRate(files, probe)->bytes > 0);
    const test::TempDir kept;
    const DeviceTuning both = TuneDevices(files, IoBackend::kUring, kept.path());
    const auto n_kept = std::distance(std::filesystem::directory_iterator(kept.path()), {});
    CHECK(n_kept == 2);
    // Found again, so that the rates are the same.
    const PagerFile second{drives[1].largest, kMinDiskProbeBytes, -1, {}};
    const DeviceTuning of_a = TuneDevices({&a, 1}, IoBackend::kUring, kept.path());
    const DeviceTuning of_b = TuneDevices({&second, 1}, IoBackend::kUring, kept.path());
    CHECK(both.bytes_per_second ==
          Approx(of_a.bytes_per_second + of_b.bytes_per_second).margin(4e6));
    CHECK(both.pager.depth == std::max(of_a.pager.depth, of_b.pager.depth));
    CHECK(both.pager.piece_bytes == std::max(of_a.pager.piece_bytes, of_b.pager.piece_bytes));
  }
}

}  // namespace
}  // namespace stoker
