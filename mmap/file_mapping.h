#pragma once

// A read-only mapping of one whole regular file, with its descriptor and its size as fstat saw it.
// Move-only; unmaps and closes on destruction. Immutable: thread-safe to read. Opening touches no
// page of the file. Whoever shrinks the file underneath causes SIGBUS on a later touch; extents are
// checked against the size at opening, not later.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "numa/unique_fd.h"

namespace stoker {

class FileMapping {
 public:
  FileMapping() = default;
  // Throws std::system_error naming the path and the call that failed, FormatError when it is not
  // a regular file or is empty.
  static FileMapping Open(const std::filesystem::path& path);

  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&& other) noexcept;
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;
  ~FileMapping();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  uint64_t size() const { return size_; }
  int fd() const { return fd_.get(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  void Unmap();

  std::filesystem::path path_;
  UniqueFd fd_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace stoker
