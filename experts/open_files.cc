#include "experts/open_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

#include "mmap/weight_store.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

// 4096 fits every drive with 512-byte or 4 KiB sectors and costs at most 8 KiB per extent. A file
// system that wants more than this for direct I/O is read through the page cache.
constexpr uint64_t kMinAlignment = 4096;
constexpr uint64_t kMaxAlignment = 64 * kKiB;
constexpr size_t kMaxDevices = 32;

struct FreeDeleter {
  void operator()(std::byte* block) const { std::free(block); }
};
using AlignedBlock = std::unique_ptr<std::byte, FreeDeleter>;

AlignedBlock AllocateBlock() {
  void* block = std::aligned_alloc(kMaxAlignment, kMaxAlignment);
  if (block == nullptr) throw std::bad_alloc();
  return AlignedBlock(static_cast<std::byte*>(block));
}

UniqueFd OpenOne(const std::filesystem::path& path, int borrowed_fd, bool direct) {
  const int flags = O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0);
  UniqueFd fd;
  if (borrowed_fd >= 0) {
    fd = UniqueFd(::open(("/proc/self/fd/" + std::to_string(borrowed_fd)).c_str(), flags));
  }
  // Without /proc, or without the right to reopen, the name has to do.
  if (!fd.valid() && errno != EINVAL) fd = UniqueFd(::open(path.c_str(), flags));
  if (fd.valid()) return fd;
  if (direct && errno == EINVAL) {
    throw DirectIoRefused(path.string() + ": direct I/O refused (open: " + std::strerror(EINVAL) +
                          ")");
  }
  throw std::system_error(errno, std::generic_category(), "cannot open " + path.string());
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

// Reads the file's first block, aligned as every later read will be. Returns the errno, 0 if good.
int ReadFirstBlock(int fd, uint64_t alignment, std::byte* block) {
  ssize_t n = 0;
  do {
    n = ::pread(fd, block, alignment, 0);
  } while (n < 0 && (errno == EINTR || errno == EAGAIN));
  return n < 0 ? errno : 0;
}

void CheckMirror(const PagerFile& file, const std::filesystem::path& path, int fd, int primary_fd,
                 uint64_t alignment) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    throw std::system_error(errno, std::generic_category(), "fstat " + path.string());
  }
  const AlignedBlock ours = AllocateBlock();
  const AlignedBlock theirs = AllocateBlock();
  std::memset(ours.get(), 0, alignment);
  std::memset(theirs.get(), 0, alignment);
  if (static_cast<uint64_t>(info.st_size) != file.bytes ||
      ReadFirstBlock(primary_fd, alignment, ours.get()) != 0 ||
      ReadFirstBlock(fd, alignment, theirs.get()) != 0 ||
      std::memcmp(ours.get(), theirs.get(), alignment) != 0) {
    throw std::runtime_error(path.string() + ": is not a copy of " + file.path.string() +
                             " (size or first block differs); copy it again or leave out --mirror");
  }
}

}  // namespace

OpenFiles OpenFiles::Open(std::span<const PagerFile> files, bool direct) {
  OpenFiles open;
  std::vector<dev_t> devices;
  const AlignedBlock block = AllocateBlock();
  open.replicas_.resize(files.size());
  for (uint32_t f = 0; f < files.size(); ++f) {
    for (size_t copy = 0; copy <= files[f].mirrors.size(); ++copy) {
      const bool primary = copy == 0;
      const std::filesystem::path& path = primary ? files[f].path : files[f].mirrors[copy - 1];
      UniqueFd fd = OpenOne(path, primary ? files[f].fd : -1, direct);
      if (direct) {
        const uint64_t alignment = std::max(ReportedAlignment(fd.get()), kMinAlignment);
        const int error = alignment > kMaxAlignment
                              ? EINVAL
                              : ReadFirstBlock(fd.get(), alignment, block.get());
        if (error != 0) {
          throw DirectIoRefused(path.string() + ": direct I/O refused (read of " +
                                FormatBytes(alignment) + ": " + std::strerror(error) + ")");
        }
        open.alignment_ = std::max(open.alignment_, alignment);
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
      open.handles_.push_back({std::move(fd), f, path});
    }
  }
  if (devices.size() > kMaxDevices) {
    throw std::runtime_error("the model's files are on " + std::to_string(devices.size()) +
                             " drives; at most " + std::to_string(kMaxDevices) + " are supported");
  }
  open.n_devices_ = static_cast<uint32_t>(devices.size());
  return open;
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
