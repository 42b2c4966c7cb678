#pragma once

// Writes a file so that its name only ever shows a complete one: bytes go to a temporary file in
// the same directory, Commit flushes and renames it. Without Commit the destructor removes it and
// whatever had the name before stays. A symbolic link stays one: the file behind it is replaced. A
// device or a pipe cannot be replaced and is written to as the bytes come. Used from one thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "numa/unique_fd.h"

namespace stoker {

class AtomicFile {
 public:
  // Throws std::system_error naming the path, for a directory and an empty name too. Opening a pipe
  // waits for its reader.
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  // Throws what the constructor would throw and leaves everything as it is: for commands that work
  // long before they write.
  static void RequireWritable(const std::filesystem::path& path);
  // The file that a name stands for, behind its symbolic links. It need not exist.
  static std::filesystem::path Target(std::filesystem::path path);

  // Appends all of `bytes`. Throws std::system_error naming the path and how far the file had got;
  // a full disk says so.
  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }
  // Whether the file system lets ranges of the file share their blocks on the disk (XFS and Btrfs
  // do), found by trying; before the first Write.
  bool CanShareBlocks();
  // Appends what [begin, begin + n) of the file itself holds, on the same blocks of the disk. All
  // of begin, n and size() are multiples of kShareAlignment. Throws as Write.
  void AppendShared(uint64_t begin, uint64_t n);
  static constexpr uint64_t kShareAlignment = 4096;
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  // Makes the file durable and visible under its name. Nothing may be written afterwards.
  void Commit();

 private:
  [[noreturn]] void Throw(int error, std::string_view what) const;
  void CreateTemporary();
  int CloneToEnd(uint64_t begin, uint64_t n);  // the error number, 0 when done

  std::filesystem::path path_;       // as given, for messages
  std::filesystem::path target_;     // what is replaced
  std::filesystem::path temporary_;  // empty: nothing to rename or remove
  UniqueFd fd_;                      // valid until Commit
  uint64_t size_ = 0;
};

}  // namespace stoker
