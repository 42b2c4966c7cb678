#include "experts/pager.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>

#include "experts/mapped_pager.h"
#include "experts/open_files.h"
#include "experts/pread_pager.h"
#include "numa/bytes.h"
#include "numa/node_buffer.h"
#include "numa/system_files.h"
#include "tests/support/catch.h"
#include "tests/support/file_tree.h"

namespace stoker {
namespace {

std::string RandomBytes(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text((bytes + 7) / 8 * 8, '\0');
  for (size_t i = 0; i < text.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(text.data() + i, &word, 8);
  }
  text.resize(bytes);
  return text;
}

struct TestFile {
  explicit TestFile(size_t bytes) : content(RandomBytes(bytes, bytes)) {
    tree.Write("/weights.bin", content);
    file = {tree.root() + "/weights.bin", content.size(), -1, {}};
  }
  FileTree tree;
  std::string content;
  PagerFile file;
};

// A copy of the file on another file system, removed with this; false with a visible line where
// there is none.
struct CopyElsewhere {
  explicit CopyElsewhere(const TestFile& test)
      : path("/dev/shm/stoker-pager-test-" + std::to_string(::getpid())) {
    struct stat here {};
    struct stat shm {};
    REQUIRE(::stat(test.tree.root().c_str(), &here) == 0);
    own_drive = here.st_dev;
    if (::stat("/dev/shm", &shm) != 0 || shm.st_dev == own_drive) {
      std::cout << "skipped: no second file system\n";
      return;
    }
    drive = shm.st_dev;
    std::ofstream(path, std::ios::binary) << test.content;
  }
  ~CopyElsewhere() { std::filesystem::remove(path); }
  CopyElsewhere(const CopyElsewhere&) = delete;
  CopyElsewhere& operator=(const CopyElsewhere&) = delete;
  explicit operator bool() const { return drive != 0; }

  const std::filesystem::path path;
  dev_t own_drive = 0;
  dev_t drive = 0;
};

// The backend, or nullptr with a visible line where this machine forbids it.
std::unique_ptr<Pager> TryPager(IoBackend backend, const PagerFile& file,
                                const PagerOptions& options = {}) {
  try {
    return MakePager(backend, {&file, 1}, options);
  } catch (const std::exception& error) {
    std::cout << "skipped: " << IoBackendName(backend) << ": " << error.what() << "\n";
    return nullptr;
  }
}

constexpr IoBackend kBackends[] = {IoBackend::kUring, IoBackend::kPread, IoBackend::kMapped};
constexpr std::byte kGuard{0xA5};

struct Extent {
  uint64_t offset;
  uint64_t bytes;
};

// Every combination of awkward offsets and lengths, and tails that end with the file.
std::vector<Extent> AwkwardExtents(uint64_t file_bytes) {
  const uint64_t edges[] = {1,    2,    511,   512,   513,   4095,   4096,
                            4097, 8191, 65535, 65536, 65537, 131071, 262145};
  std::vector<Extent> extents;
  for (const uint64_t offset : edges) {
    for (const uint64_t bytes : edges) {
      if (offset - 1 + bytes <= file_bytes) extents.push_back({offset - 1, bytes});
    }
  }
  for (const uint64_t bytes : edges) extents.push_back({file_bytes - bytes, bytes});
  extents.push_back({0, file_bytes});
  return extents;
}

// Reads all extents at once into guarded blocks of one buffer and compares.
void CheckReads(Pager& pager, const std::string& content, const std::vector<Extent>& extents,
                bool register_memory) {
  const uint64_t alignment = pager.alignment();
  std::vector<uint64_t> places;
  uint64_t total = 0;
  for (const Extent& extent : extents) {
    places.push_back(total);
    total += PaddedBytes(extent.offset, extent.bytes, alignment) + alignment;
  }
  const NodeBuffer buffer = NodeBuffer::Allocate(std::max(total, 2 * kMiB), "test");
  std::memset(buffer.data(), static_cast<int>(kGuard), buffer.size());
  if (register_memory) pager.RegisterMemory(buffer.span());

  std::vector<ReadRequest> requests;
  for (size_t i = 0; i < extents.size(); ++i) {
    requests.push_back({0, extents[i].offset, extents[i].bytes, buffer.data() + places[i], i});
  }
  pager.Submit(requests);
  std::vector<int> seen(extents.size(), 0);
  ReadCompletion completions[7];
  while (pager.pending() > 0) {
    const size_t n = pager.Reap(completions, true);
    REQUIRE(n > 0);
    for (size_t i = 0; i < n; ++i) {
      REQUIRE(completions[i].status == ReadStatus::kOk);
      ++seen[completions[i].tag];
    }
  }
  for (size_t i = 0; i < extents.size(); ++i) {
    CAPTURE(extents[i].offset, extents[i].bytes);
    CHECK(seen[i] == 1);
    const std::byte* block = buffer.data() + places[i];
    const bool same = std::memcmp(block + extents[i].offset % alignment,
                                  content.data() + extents[i].offset, extents[i].bytes) == 0;
    CHECK(same);
    const std::byte* end = block + PaddedBytes(extents[i].offset, extents[i].bytes, alignment);
    CHECK(std::all_of(end, end + alignment, [](std::byte b) { return b == kGuard; }));
  }
}

TEST_CASE("every backend reads every awkward extent to the byte") {
  for (const size_t size : {1048576 + 777, 1048576, 786432 + 512}) {
    TestFile test(size);
    for (const IoBackend backend : kBackends) {
      for (const bool small_pieces : {true, false}) {
        PagerOptions options;
        if (small_pieces) options = {.piece_bytes = 65536, .depth = 3, .threads = 2};
        const std::unique_ptr<Pager> pager = TryPager(backend, test.file, options);
        if (pager == nullptr) continue;
        CAPTURE(size, pager->Describe(), small_pieces);
        CHECK(pager->backend() == backend);
        CheckReads(*pager, test.content, AwkwardExtents(size), small_pieces);
        const PagerStats stats = pager->stats();
        CHECK(stats.failed == 0);
        CHECK(stats.bytes_read >= size);
      }
    }
  }
}

TEST_CASE("a file that shrank after opening is an error that names the place") {
  for (const IoBackend backend : kBackends) {
    TestFile test(300000);
    const std::unique_ptr<Pager> pager = TryPager(backend, test.file);
    if (pager == nullptr) continue;
    CAPTURE(pager->Describe());
    std::filesystem::resize_file(test.file.path, 100001);
    const NodeBuffer buffer = NodeBuffer::Allocate(2 * kMiB, "test");
    const ReadRequest requests[] = {{0, 50000, 50001, buffer.data(), 1},
                                    {0, 50000, 50002, buffer.data() + kMiB, 2}};
    pager->Submit(requests);
    ReadStatus status[3] = {};
    std::string message;
    while (pager->pending() > 0) {
      ReadCompletion completion;
      if (pager->Reap({&completion, 1}, true) == 0) continue;
      status[completion.tag] = completion.status;
      if (completion.tag == 2) message = ReadErrorMessage(test.file.path, completion);
    }
    CHECK(status[1] == ReadStatus::kOk);
    CHECK(status[2] == ReadStatus::kShrank);
    CHECK(message.find(test.file.path.string()) != std::string::npos);
    CHECK(message.find("truncated") != std::string::npos);
  }
}

TEST_CASE("destroying a pager waits for reads in flight") {
  TestFile test(32 * kMiB);
  for (const IoBackend backend : kBackends) {
    for (int round = 0; round < 4; ++round) {
      NodeBuffer buffer = NodeBuffer::Allocate(64 * kMiB, "test");
      {
        const std::unique_ptr<Pager> pager =
            TryPager(backend, test.file, {.piece_bytes = 512 * kKiB, .depth = 16});
        if (pager == nullptr) continue;
        const ReadRequest requests[] = {{0, 0, 32 * kMiB, buffer.data(), 0},
                                        {0, 5, 32 * kMiB - 5, buffer.data() + 32 * kMiB, 1}};
        pager->Submit(requests);
        if (round % 2 == 1) pager->CancelQueued();
      }
      // Written by nobody from here on: a late read would show under a sanitizer, or here.
      std::memset(buffer.data(), 0x5A, buffer.size());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      CHECK(std::all_of(buffer.data(), buffer.data() + buffer.size(),
                        [](std::byte b) { return b == std::byte{0x5A}; }));
    }
  }
}

TEST_CASE("a cancelled pager goes on working") {
  TestFile test(4 * kMiB);
  for (const IoBackend backend : kBackends) {
    const std::unique_ptr<Pager> pager =
        TryPager(backend, test.file, {.piece_bytes = 64 * kKiB, .depth = 1, .threads = 1});
    if (pager == nullptr) continue;
    const NodeBuffer buffer = NodeBuffer::Allocate(8 * kMiB, "test");
    const ReadRequest request{0, 0, 4 * kMiB, buffer.data(), 0};
    pager->Submit({&request, 1});
    pager->CancelQueued();
    ReadCompletion completion;
    while (pager->pending() > 0) pager->Reap({&completion, 1}, true);
    CHECK(completion.status == ReadStatus::kCancelled);
    CheckReads(*pager, test.content, {{1, 4 * kMiB - 2}}, false);
  }
}

// pread that answers short in the ways real devices do, and fails now and then.
PreadFunction AwkwardPread(std::atomic<uint64_t>& calls) {
  return [&calls](int fd, void* buffer, size_t bytes, off_t offset) -> ssize_t {
    const uint64_t n = calls.fetch_add(1);
    constexpr size_t kLengths[] = {1, 511, 512, 4096, 100000, 4097};
    if (n % 7 == 5) return errno = EINTR, -1;
    if (n % 11 == 7) return errno = EAGAIN, -1;
    if (n % 101 == 3) return errno = EIO, -1;
    if (n % 17 == 2) return 0;
    const size_t want = n % 3 == 0 ? bytes : std::min(bytes, kLengths[n % std::size(kLengths)]);
    return ::pread(fd, buffer, want, offset);
  };
}

TEST_CASE("short and transiently failing reads arrive complete") {
  TestFile test(1048576 + 777);
  const PagerOptions options{.piece_bytes = 65536, .threads = 4};
  std::atomic<uint64_t> calls{0};
  PreadPager pool(OpenFiles::Open({&test.file, 1}, false), options, AwkwardPread(calls));
  CheckReads(pool, test.content, AwkwardExtents(test.content.size()), false);
  CHECK(pool.stats().retries > 0);
  CHECK(pool.stats().short_reads > 0);
  MappedPager mapped(OpenFiles::Open({&test.file, 1}, false), options, AwkwardPread(calls));
  CheckReads(mapped, test.content, AwkwardExtents(test.content.size()), false);
}

TEST_CASE("one stuck read does not hold up the others") {
  TestFile test(kMiB);
  std::atomic<bool> release{false};
  PreadPager pool(OpenFiles::Open({&test.file, 1}, false), {.piece_bytes = 65536, .threads = 3},
                  [&](int fd, void* buffer, size_t bytes, off_t offset) {
                    while (offset == 0 && !release) std::this_thread::yield();
                    return ::pread(fd, buffer, bytes, offset);
                  });
  const NodeBuffer buffer = NodeBuffer::Allocate(2 * kMiB, "test");
  const ReadRequest requests[] = {{0, 0, 100, buffer.data(), 0},
                                  {0, 100000, 65536, buffer.data() + 4 * 4096, 1},
                                  {0, 200000, 65536, buffer.data() + 64 * 4096, 2}};
  pool.Submit(requests);
  for (int i = 0; i < 2; ++i) {
    ReadCompletion completion;
    REQUIRE(pool.Reap({&completion, 1}, true) == 1);
    CHECK(completion.tag != 0);
  }
  CHECK(pool.pending() == 1);
  release = true;
}

TEST_CASE("a failing medium is reported with file and offset") {
  TestFile test(kMiB);
  PreadPager pool(OpenFiles::Open({&test.file, 1}, false), {.piece_bytes = 65536, .threads = 2},
                  [](int fd, void* buffer, size_t bytes, off_t offset) -> ssize_t {
                    if (offset == 196608) return errno = EIO, -1;
                    return ::pread(fd, buffer, bytes, offset);
                  });
  const NodeBuffer buffer = NodeBuffer::Allocate(4 * kMiB, "test");
  const ReadRequest request{0, 7, kMiB - 7, buffer.data(), 9};
  pool.Submit({&request, 1});
  ReadCompletion completion;
  REQUIRE(pool.Reap({&completion, 1}, true) == 1);
  CHECK(completion.tag == 9);
  CHECK(completion.offset == 196608);
  CHECK(ReadErrorMessage(test.file.path, completion) ==
        test.file.path.string() + ": read at offset 196608 failed: Input/output error");
  CHECK(pool.pending() == 0);
}

TEST_CASE("registered memory is used for every read") {
  TestFile test(4 * kMiB);
  const std::unique_ptr<Pager> pager = TryPager(IoBackend::kUring, test.file);
  if (pager == nullptr) return;
  CheckReads(*pager, test.content, AwkwardExtents(test.content.size()), true);
  if (pager->Describe().find("registered") == std::string::npos) {
    std::cout << "skipped: buffers cannot be registered here\n";
    return;
  }
  CHECK(pager->stats().unregistered == 0);
}

int64_t PinnedKib() { return std::stoll(StatusField("/proc/self/status", "VmPin")); }

TEST_CASE("memory is free as soon as its pager is gone") {
  TestFile test(kMiB);
  const NodeBuffer buffer = NodeBuffer::Allocate(64 * kMiB, "test");
  const int64_t before = PinnedKib();
  std::unique_ptr<Pager> pager = TryPager(IoBackend::kUring, test.file);
  if (pager == nullptr) return;
  pager->RegisterMemory(buffer.span());
  if (PinnedKib() == before) {
    std::cout << "skipped: buffers cannot be registered here\n";
    return;
  }
  pager.reset();
  CHECK(PinnedKib() == before);
}

TEST_CASE("mirrors must be copies, and are read when on another drive") {
  TestFile test(4 * kMiB);
  FileTree elsewhere;
  PagerFile file = test.file;
  elsewhere.Write("/weights.bin", test.content);
  file.mirrors = {elsewhere.root() + "/weights.bin"};
  CHECK(OpenFiles::Open({&file, 1}, false).handles().size() == 1);  // same drive: no use

  const CopyElsewhere copy(test);
  if (!copy) return;
  file.mirrors = {copy.path};
  CHECK(OpenFiles::Open({&file, 1}, false).n_devices() == 2);
  {
    const std::unique_ptr<Pager> pager =
        MakePager(IoBackend::kMapped, {&file, 1}, {.piece_bytes = 64 * kKiB});
    CheckReads(*pager, test.content, AwkwardExtents(test.content.size()), false);
  }
  // A copy that was interrupted has the size and the beginning, and zeros behind.
  for (const size_t wrong_from : {size_t{0}, test.content.size() / 2, test.content.size() - 100}) {
    std::string other = test.content;
    for (size_t i = wrong_from; i < other.size(); ++i) other[i] = 0;
    std::ofstream(copy.path, std::ios::binary) << other;
    CHECK_THROWS_AS(OpenFiles::Open({&file, 1}, false), std::runtime_error);
  }
}

TEST_CASE("what fails on one drive is read from the copy on another") {
  TestFile test(4 * kMiB);
  const CopyElsewhere copy(test);
  if (!copy) return;
  PagerFile file = test.file;
  file.mirrors = {copy.path};
  for (const dev_t broken : {copy.own_drive, copy.drive}) {
    std::atomic<bool> has_failed = false;
    const auto read = [&](int fd, void* to, size_t bytes, off_t offset) -> ssize_t {
      struct stat info {};
      if (::fstat(fd, &info) == 0 && info.st_dev == broken && offset >= off_t{1} << 20) {
        has_failed = true;
        errno = EIO;
        return -1;
      }
      return ::pread(fd, to, bytes, offset);
    };
    // The other drive waits, or it might have read everything before the broken one was asked.
    const auto read_late = [&](int fd, void* to, size_t bytes, off_t offset) -> ssize_t {
      struct stat info {};
      const bool is_other = ::fstat(fd, &info) == 0 && info.st_dev != broken;
      while (is_other && offset >= off_t{1} << 20 && !has_failed) std::this_thread::yield();
      return read(fd, to, bytes, offset);
    };
    const PagerOptions options{.piece_bytes = 64 * kKiB, .threads = 2};
    PreadPager pool(OpenFiles::Open({&file, 1}, false), options, read_late);
    CheckReads(pool, test.content, AwkwardExtents(test.content.size()), false);
    CHECK(pool.stats().failovers > 0);
    CHECK(pool.stats().failed == 0);
    MappedPager mapped(OpenFiles::Open({&file, 1}, false), options, read);
    CheckReads(mapped, test.content, AwkwardExtents(test.content.size()), false);
  }
  // And where both fail it is an error.
  PreadPager none(OpenFiles::Open({&file, 1}, false), {.threads = 1},
                  [](int, void*, size_t, off_t) -> ssize_t {
                    errno = EIO;
                    return -1;
                  });
  const AlignedBlock block = AllocateBlock(64 * kKiB);
  const ReadRequest request{0, 0, 64 * kKiB, block.get(), 1};
  none.Submit({&request, 1});
  ReadCompletion completion;
  REQUIRE(none.Reap({&completion, 1}, true) == 1);
  CHECK(completion.status == ReadStatus::kError);
  CHECK(completion.error == EIO);
  CHECK(none.stats().failovers == 1);
  CHECK(none.stats().failed == 1);
}

TEST_CASE("a file that is renamed over is read as it was opened") {
  TestFile test(kMiB);
  const UniqueFd fd(::open(test.file.path.c_str(), O_RDONLY));
  test.tree.Write("/new.bin", RandomBytes(kMiB, 99));
  std::filesystem::rename(test.tree.root() + "/new.bin", test.file.path);
  PagerFile file = test.file;
  file.fd = fd.get();
  const std::unique_ptr<Pager> pager = MakePager(IoBackend::kAuto, {&file, 1});
  CheckReads(*pager, test.content, {{0, kMiB}}, false);
}

TEST_CASE("names of backends") {
  for (const IoBackend backend : kBackends) {
    CHECK(IoBackendFromName(IoBackendName(backend)) == backend);
  }
  CHECK_FALSE(IoBackendFromName("fast").has_value());
}

}  // namespace
}  // namespace stoker
