// On the real disk: what is chosen lies in its range, is kept, and a foreign or damaged file is
// measured again.

#include "experts/device_tuning.h"

#include <string>

#include "experts/disk_rate.h"
#include "experts/pager.h"
#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

TEST_CASE("a drive is measured once") {
  const test::TempDir directory;
  const std::filesystem::path file = directory.path() / "data";
  test::WriteFile(file, std::string(kMinDiskProbeBytes + kMiB, 'x'));
  const PagerFile pager_file{file, kMinDiskProbeBytes + kMiB, -1, {}};
  const IoBackend backend = MakePager(IoBackend::kAuto, {&pager_file, 1})->backend();
  if (backend != IoBackend::kUring) {
    WARN("no io_uring with direct I/O here: defaults");
    CHECK(TuneDevice(file, backend, directory.path()).source == "defaults");
    return;
  }
  const std::filesystem::path kept = directory.path() / "kept";
  const DeviceTuning first = TuneDevice(file, backend, kept);
  CHECK(first.source.starts_with("measured in "));
  CHECK(first.pager.piece_bytes >= kMiB);
  CHECK(first.pager.piece_bytes <= 8 * kMiB);
  CHECK(first.pager.waiting_depth >= 1);
  CHECK(first.pager.depth >= first.pager.waiting_depth);
  CHECK_NOTHROW(MakePager(backend, {&pager_file, 1}, first.pager));

  const std::filesystem::path path = std::filesystem::directory_iterator(kept)->path();
  const DeviceTuning second = TuneDevice(file, backend, kept);
  CHECK(second.source == path.string());
  CHECK(second.pager.piece_bytes == first.pager.piece_bytes);
  CHECK(second.pager.depth == first.pager.depth);
  CHECK(second.pager.waiting_depth == first.pager.waiting_depth);

  test::WriteFile(path, "of another drive\npiece_mib 2\ndepth 1\nwaiting_depth 1\n");
  CHECK(TuneDevice(file, backend, kept).source.starts_with("measured in "));
  CHECK(TuneDevice(file, backend, "").source.starts_with("measured in "));
}

TEST_CASE("small files and other backends have defaults") {
  const test::TempDir directory;
  const std::filesystem::path file = directory.path() / "data";
  test::WriteFile(file, "small");
  CHECK(TuneDevice(file, IoBackend::kUring, directory.path()).source == "defaults");
  CHECK(TuneDevice(file, IoBackend::kPread, directory.path()).source == "defaults");
}

}  // namespace
}  // namespace stoker
