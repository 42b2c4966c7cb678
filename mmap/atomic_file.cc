#include "mmap/atomic_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "mmap/format_error.h"
#include "numa/check.h"

namespace stoker {
namespace {

namespace fs = std::filesystem;

// The kernel writes at most 2 GiB less a page at once; smaller pieces let an interrupt through.
constexpr size_t kMaxWriteBytes = size_t{64} << 20;

constexpr int kMaxLinks = 40;  // the kernel follows no more

// What has a name: kNothing when it is free.
enum class Kind { kNothing, kRegular, kDirectory, kOther };

Kind KindOf(const fs::path& path, int* error) {
  struct stat status = {};
  *error = ::stat(path.c_str(), &status) == 0 ? 0 : errno;
  if (*error != 0) return Kind::kNothing;
  if (S_ISREG(status.st_mode)) return Kind::kRegular;
  return S_ISDIR(status.st_mode) ? Kind::kDirectory : Kind::kOther;
}

}  // namespace

fs::path AtomicFile::Target(fs::path path) {
  for (int i = 0; i < kMaxLinks; ++i) {
    std::error_code no_link;
    const fs::path next = fs::read_symlink(path, no_link);
    if (no_link) break;
    path = path.parent_path() / next;
  }
  return path;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  if (path_.empty()) {
    throw std::system_error(EINVAL, std::generic_category(), "the file to write has no name");
  }
  int error = 0;
  const Kind kind = KindOf(path_, &error);
  if (error != 0 && error != ENOENT) Throw(error, "cannot create");
  if (kind == Kind::kDirectory) Throw(EISDIR, "cannot write");
  if (kind == Kind::kOther) {
    fd_ = UniqueFd(::open(path_.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC));
    if (!fd_.valid()) Throw(errno, "cannot open for writing");
    return;
  }
  target_ = Target(path_);
  CreateTemporary();
}

void AtomicFile::CreateTemporary() {
  temporary_ = target_;
  temporary_ += ".partial-" + std::to_string(::getpid());
  const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  fd_ = UniqueFd(::open(temporary_.c_str(), flags, 0666));
  if (!fd_.valid() && errno == EEXIST) {
    // Left behind by a killed process that had our number.
    ::unlink(temporary_.c_str());
    fd_ = UniqueFd(::open(temporary_.c_str(), flags, 0666));
  }
  if (!fd_.valid()) {
    const int error = errno;
    temporary_.clear();
    Throw(error, "cannot create");
  }
}

void AtomicFile::RequireWritable(const fs::path& path) {
  int error = 0;
  if (KindOf(path, &error) != Kind::kOther) {
    const AtomicFile removed_at_once(path);
    return;
  }
  // Not opened: a pipe's reader would take the end of this for the end of everything.
  if (::access(path.c_str(), W_OK) != 0) {
    throw std::system_error(errno, std::generic_category(),
                            PrintablePath(path.native()) + ": cannot open for writing");
  }
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::Throw(int error, std::string_view what) const {
  std::string message = PrintablePath(path_.native()) + ": " + std::string(what);
  if (error == ENOSPC || error == EDQUOT) {
    message += " after " + std::to_string(size_) + " bytes; free some space or choose another disk";
  }
  throw std::system_error(error, std::generic_category(), message);
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  STOKER_CHECK_MSG(fd_.valid(), "AtomicFile written after Commit");
  while (!bytes.empty()) {
    const size_t n = bytes.size() < kMaxWriteBytes ? bytes.size() : kMaxWriteBytes;
    const ssize_t written = ::write(fd_.get(), bytes.data(), n);
    if (written < 0) {
      if (errno == EINTR) continue;
      Throw(errno, "cannot write");
    }
    size_ += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

bool AtomicFile::CanShareBlocks() {
  STOKER_CHECK(size_ == 0);
  if (temporary_.empty()) return false;
  Write(std::vector<std::byte>(kShareAlignment));
  const bool can = CloneToEnd(0, kShareAlignment) == 0;
  if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), 0, SEEK_SET) != 0) {
    Throw(errno, "cannot write");
  }
  size_ = 0;
  return can;
}

int AtomicFile::CloneToEnd(uint64_t begin, uint64_t n) {
  file_clone_range range = {};
  range.src_fd = fd_.get();
  range.src_offset = begin;
  range.src_length = n;
  range.dest_offset = size_;
  while (::ioctl(fd_.get(), FICLONERANGE, &range) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

void AtomicFile::AppendShared(uint64_t begin, uint64_t n) {
  STOKER_CHECK(begin % kShareAlignment == 0 && n % kShareAlignment == 0 &&
               size_ % kShareAlignment == 0);
  STOKER_CHECK(n > 0 && begin + n <= size_);
  if (const int error = CloneToEnd(begin, n); error != 0) {
    Throw(error, "cannot share blocks of the disk");
  }
  size_ += n;
  if (::lseek(fd_.get(), static_cast<off_t>(size_), SEEK_SET) < 0) Throw(errno, "cannot write");
}

void AtomicFile::Commit() {
  STOKER_CHECK_MSG(fd_.valid(), "AtomicFile committed twice");
  const bool in_place = temporary_.empty();
  // Pipes and many devices have nothing to flush.
  if (::fsync(fd_.get()) != 0 && !(in_place && (errno == EINVAL || errno == ENOTSUP))) {
    Throw(errno, "cannot flush to disk");
  }
  fd_ = UniqueFd();
  if (in_place) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) Throw(errno, "cannot rename into place");
  temporary_.clear();
  // The name is durable once its directory is. Some file systems refuse to sync directories;
  // the file is complete either way.
  const fs::path parent = target_.parent_path();
  const UniqueFd directory(
      ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid()) static_cast<void>(::fsync(directory.get()));
}

}  // namespace stoker
