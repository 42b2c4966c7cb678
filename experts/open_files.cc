#include "experts/open_files.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "mmap/weight_store.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

// 4096 fits every drive with 512-byte or 4 KiB sectors and costs at most 8 KiB per extent. A file
// system that wants more than this for direct I/O is read through the page cache.
constexpr uint64_t kMinAlignment = 4096;
constexpr uint64_t kMaxAlignment = 64 * kKiB;
constexpr size_t kMaxDevices = 32;

// Places of a mirror that are compared: an interrupted copy may have the size and the beginning.
constexpr uint64_t kComparedBlocks = 32;

UniqueFd OpenOne(const std::filesystem::path& path, int borrowed_fd, bool direct) {
  const int flags = O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0);
  UniqueFd fd;
  int error = 0;
  const auto open = [&](const char* name) {
    fd = UniqueFd(::open(name, flags));
    error = fd.valid() ? 0 : errno;
  };
  if (borrowed_fd >= 0) open(("/proc/self/fd/" + std::to_string(borrowed_fd)).c_str());
  // Without /proc, or without the right to reopen, the name has to do.
  if (!fd.valid() && error != EINVAL) open(path.c_str());
  if (fd.valid()) return fd;
  if (direct && error == EINVAL) {
    throw DirectIoRefused(path.string() + ": direct I/O refused (open: " + std::strerror(EINVAL) +
                          ")");
  }
  throw std::system_error(error, std::generic_category(), "cannot open " + path.string());
}

// The alignment the file system reports for this file; 0 when it reports none.
uint64_t ReportedAlignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0) {
    return std::max<uint64_t>(info.stx_dio_mem_align, info.stx_dio_offset_align);
  }
#else
  static_cast<void>(fd);
#endif
  return 0;
}

// Reads a block at an aligned place, aligned as every later read will be. Returns the errno, 0 if
// good; at the file's end the rest of the block stays as it was.
int ReadBlock(int fd, uint64_t offset, uint64_t alignment, std::byte* block) {
  constexpr int kAttempts = 100;
  for (int attempt = 1;; ++attempt) {
    if (::pread(fd, block, alignment, static_cast<off_t>(offset)) >= 0) return 0;
    if ((errno != EINTR && errno != EAGAIN) || attempt == kAttempts) return errno;
    if (errno == EAGAIN) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// Tries a direct read. Raises *alignment to what the file wants.
void RequireDirect(const std::filesystem::path& path, int fd, uint64_t* alignment) {
  const uint64_t wanted = std::max(ReportedAlignment(fd), kMinAlignment);
  const int error = wanted > kMaxAlignment
                        ? EINVAL
                        : ReadBlock(fd, 0, wanted, AllocateBlock(kMaxAlignment).get());
  if (error != 0) {
    throw DirectIoRefused(path.string() + ": direct I/O refused (read of " + FormatBytes(wanted) +
                          ": " + std::strerror(error) + ")");
  }
  *alignment = std::max(*alignment, wanted);
}

void CheckMirror(const PagerFile& file, const std::filesystem::path& path, int fd, int primary_fd,
                 uint64_t alignment) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    throw std::system_error(errno, std::generic_category(), "fstat " + path.string());
  }
  const auto differs = [&](const std::string& how) {
    return std::runtime_error(path.string() + ": is not a copy of " + file.path.string() + " (" +
                              how + "); copy it again or leave out --mirror");
  };
  if (static_cast<uint64_t>(info.st_size) != file.bytes) throw differs("the size differs");
  if (file.bytes == 0) return;
  const AlignedBlock ours = AllocateBlock(kMaxAlignment);
  const AlignedBlock theirs = AllocateBlock(kMaxAlignment);
  const uint64_t n_blocks = DivCeil(file.bytes, alignment);
  const uint64_t n_compared = std::min(n_blocks, kComparedBlocks);
  for (uint64_t i = 0; i < n_compared; ++i) {
    // The first, the last and those evenly between.
    const uint64_t block = n_compared == 1 ? 0 : i * (n_blocks - 1) / (n_compared - 1);
    const uint64_t offset = block * alignment;
    std::memset(ours.get(), 0, alignment);
    std::memset(theirs.get(), 0, alignment);
    if (ReadBlock(primary_fd, offset, alignment, ours.get()) != 0 ||
        ReadBlock(fd, offset, alignment, theirs.get()) != 0) {
      throw differs("offset " + std::to_string(offset) + " cannot be read");
    }
    if (std::memcmp(ours.get(), theirs.get(), alignment) != 0) {
      throw differs("offset " + std::to_string(offset) + " differs");
    }
  }
}

}  // namespace

AlignedBlock AllocateBlock(uint64_t bytes) {
  void* const block = std::aligned_alloc(bytes, bytes);
  if (block == nullptr) throw std::bad_alloc();
  return AlignedBlock(static_cast<std::byte*>(block));
}

OpenFiles OpenFiles::Open(std::span<const PagerFile> files, bool direct) {
  OpenFiles open;
  std::vector<dev_t> devices;
  open.replicas_.resize(files.size());
  for (uint32_t f = 0; f < files.size(); ++f) {
    for (size_t copy = 0; copy <= files[f].mirrors.size(); ++copy) {
      const bool primary = copy == 0;
      const std::filesystem::path& path = primary ? files[f].path : files[f].mirrors[copy - 1];
      UniqueFd fd;
      try {
        fd = OpenOne(path, primary ? files[f].fd : -1, direct);
        if (direct) RequireDirect(path, fd.get(), &open.alignment_);
      } catch (const DirectIoRefused& refusal) {
        if (primary) throw;
        spdlog::warn("the mirror is left out: {}", refusal.what());
        continue;
      }
      struct stat info {};
      if (::fstat(fd.get(), &info) != 0) {
        throw std::system_error(errno, std::generic_category(), "fstat " + path.string());
      }
      const auto known = std::find(devices.begin(), devices.end(), info.st_dev);
      const auto device = static_cast<uint32_t>(known - devices.begin());
      // A mirror on the same drive only costs seeks.
      if (!primary && known != devices.end() && device == open.replicas_[f].front().device) {
        continue;
      }
      if (known == devices.end()) devices.push_back(info.st_dev);
      if (!primary) {
        CheckMirror(files[f], path, fd.get(),
                    open.handles_[open.replicas_[f].front().handle].fd.get(), open.alignment_);
      }
      open.replicas_[f].push_back({static_cast<uint32_t>(open.handles_.size()), device});
      open.handles_.push_back({std::move(fd), f, path, false});
    }
  }
  if (devices.size() > kMaxDevices) {
    throw std::runtime_error("the model's files are on " + std::to_string(devices.size()) +
                             " drives; at most " + std::to_string(kMaxDevices) + " are supported");
  }
  open.n_devices_ = static_cast<uint32_t>(devices.size());
  return open;
}

void OpenFiles::NoteFailover(uint32_t failed, uint32_t other) {
  if (std::exchange(handles_[failed].has_failed, true)) return;
  spdlog::warn("io: {}: a read failed; what fails there is read from {}",
               handles_[failed].path.string(), handles_[other].path.string());
}

std::vector<PagerFile> PagerFiles(const WeightStore& store,
                                  const std::vector<std::filesystem::path>& mirror_dirs) {
  std::vector<PagerFile> files;
  files.reserve(store.files().size());
  for (uint32_t f = 0; f < store.files().size(); ++f) {
    PagerFile file{store.files()[f].path, store.files()[f].bytes, store.fd(f), {}};
    for (const std::filesystem::path& directory : mirror_dirs) {
      const std::filesystem::path copy = directory / file.path.filename();
      if (std::filesystem::exists(copy)) file.mirrors.push_back(copy);
    }
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace stoker
