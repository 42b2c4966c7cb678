#pragma once

// The open files of a pager: one descriptor per file and mirror, for direct or buffered reads, with
// the device each is on and the alignment they all accept. Opened through the descriptor the weight
// store has checked, so a file renamed over in between is not picked up. Owned by a pager;
// immutable after Open, thread-safe. It reads nothing but the probe block.

#include <cstdint>
#include <filesystem>
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

class OpenFiles {
 public:
  struct Handle {
    UniqueFd fd;
    uint32_t file = 0;
    std::filesystem::path path;
  };

  // direct: O_DIRECT on every file, tried with a real read; throws DirectIoRefused naming the first
  // file that refuses. Throws std::system_error for a file that cannot be opened,
  // std::runtime_error for a mirror whose size or first block differs.
  static OpenFiles Open(std::span<const PagerFile> files, bool direct);

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
