#pragma once

// The open files of a pager: one descriptor per file and mirror, for direct or buffered reads, with
// the device each is on and the alignment they all accept. Opened through the descriptor the weight
// store has checked, so a file renamed over in between is not picked up. Owned by a pager. It reads
// nothing but what it probes and compares. Thread-compatible; all but NoteFailover is thread-safe.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "experts/pager.h"
#include "experts/read_queue.h"
#include "numa/unique_fd.h"

namespace stoker {

// Direct I/O refused by a file's file system: the caller may fall back to the page cache.
class DirectIoRefused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct FreeDeleter {
  void operator()(std::byte* block) const { std::free(block); }
};
// Memory for one read of `bytes`, aligned to that: a power of two.
using AlignedBlock = std::unique_ptr<std::byte, FreeDeleter>;
AlignedBlock AllocateBlock(uint64_t bytes);

class OpenFiles {
 public:
  struct Handle {
    UniqueFd fd;
    uint32_t file = 0;
    std::filesystem::path path;
    bool has_failed = false;
  };

  // direct: O_DIRECT on every file, tried with a real read; throws DirectIoRefused naming the first
  // file that refuses; a mirror that does is left out, which is logged. Throws std::system_error
  // for a file that cannot be opened, std::runtime_error for a mirror whose size differs, or one of
  // some blocks that are compared.
  static OpenFiles Open(std::span<const PagerFile> files, bool direct);

  // A read of one copy has failed, the other is tried: logged once for each that fails.
  void NoteFailover(uint32_t failed, uint32_t other);

  const std::vector<Handle>& handles() const { return handles_; }
  const std::vector<std::vector<ReadReplica>>& replicas() const { return replicas_; }
  uint32_t n_devices() const { return n_devices_; }
  uint64_t alignment() const { return alignment_; }

 private:
  std::vector<Handle> handles_;
  std::vector<std::vector<ReadReplica>> replicas_;
  uint32_t n_devices_ = 0;
  uint64_t alignment_ = 4096;
};

}  // namespace stoker
