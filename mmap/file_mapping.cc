#include "mmap/file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "mmap/format_error.h"

namespace stoker {
namespace {

[[noreturn]] void ThrowErrno(const std::filesystem::path& path, const char* what) {
  const int error = errno;
  throw std::system_error(error, std::generic_category(),
                          PrintablePath(path.native()) + ": " + what);
}

}  // namespace

FileMapping FileMapping::Open(const std::filesystem::path& path) {
  FileMapping mapping;
  mapping.path_ = path;
  // O_NONBLOCK so that a FIFO in the place of a model is refused below instead of waited for.
  mapping.fd_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!mapping.fd_.valid()) ThrowErrno(path, "cannot open");

  struct stat status {};
  if (::fstat(mapping.fd_.get(), &status) != 0) ThrowErrno(path, "cannot read its size (fstat)");
  if (!S_ISREG(status.st_mode)) throw FormatError(path.native(), "file", "is not a regular file");
  if (status.st_size == 0) throw FormatError(path.native(), "file", "is empty");

  const auto size = static_cast<size_t>(status.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, mapping.fd_.get(), 0);
  if (address == MAP_FAILED) ThrowErrno(path, "cannot map into memory (mmap)");
  mapping.data_ = static_cast<const std::byte*>(address);
  mapping.size_ = size;
  return mapping;
}

FileMapping::FileMapping(FileMapping&& other) noexcept { *this = std::move(other); }

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  if (this != &other) {
    Unmap();
    path_ = std::move(other.path_);
    fd_ = std::move(other.fd_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

FileMapping::~FileMapping() { Unmap(); }

void FileMapping::Unmap() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace stoker
