#pragma once

// Writes a file so that its name only ever shows a complete one: bytes go to a temporary file in
// the same directory, Commit flushes and renames it. Without Commit the destructor removes it and
// whatever had the name before stays. Used from one thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "numa/unique_fd.h"

namespace stoker {

class AtomicFile {
 public:
  // Throws std::system_error naming the path.
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  // Appends all of `bytes`. Throws std::system_error naming the path and how far the file had got;
  // a full disk says so.
  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  // Makes the file durable and visible under its name. Nothing may be written afterwards.
  void Commit();

 private:
  [[noreturn]] void Throw(int error, std::string_view what) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  UniqueFd fd_;
  uint64_t size_ = 0;
};

}  // namespace stoker
