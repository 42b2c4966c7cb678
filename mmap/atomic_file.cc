#include "mmap/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "mmap/format_error.h"
#include "numa/check.h"

namespace stoker {
namespace {

// The kernel writes at most 2 GiB less a page at once; smaller pieces let an interrupt through.
constexpr size_t kMaxWriteBytes = size_t{64} << 20;

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  temporary_ = path_;
  temporary_ += ".partial-" + std::to_string(::getpid());
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
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
  STOKER_CHECK_MSG(!temporary_.empty(), "AtomicFile written after Commit");
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

void AtomicFile::Commit() {
  STOKER_CHECK_MSG(!temporary_.empty(), "AtomicFile committed twice");
  if (::fsync(fd_.get()) != 0) Throw(errno, "cannot flush to disk");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) Throw(errno, "cannot rename into place");
  temporary_.clear();
  // The name is durable once its directory is. Some file systems refuse to sync directories;
  // the file is complete either way.
  const std::filesystem::path parent = path_.parent_path();
  const UniqueFd directory(
      ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid()) static_cast<void>(::fsync(directory.get()));
}

}  // namespace stoker
