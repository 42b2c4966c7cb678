#pragma once

// The pread pager: a few threads of its own doing direct positional reads, for machines where
// io_uring is forbidden. Same contract and, measured, the same speed for reads of 2 MiB and more.
// See pager.h; the public functions are engine-thread only, the pool is internal.

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "experts/open_files.h"
#include "experts/pager.h"
#include "experts/read_queue.h"

namespace stoker {

// pread(2): returns bytes, or -1 with errno. Replaced by tests; called from several threads.
using PreadFunction = std::function<ssize_t(int fd, void* buffer, size_t bytes, off_t offset)>;

class PreadPager final : public Pager {
 public:
  // Throws std::system_error when the threads cannot be started.
  PreadPager(OpenFiles files, const PagerOptions& options, PreadFunction pread = {});
  ~PreadPager() override;

  IoBackend backend() const override { return IoBackend::kPread; }
  uint64_t alignment() const override { return files_.alignment(); }
  std::string Describe() const override;
  void Submit(std::span<const ReadRequest> requests) override;
  size_t Reap(std::span<ReadCompletion> out, bool wait) override;
  size_t pending() const override;
  void CancelQueued() override;
  void Promote(TagRange tags) override;
  uint64_t Drop(TagRange tags) override;
  PagerStats stats() const override;

 private:
  void Stop();
  void Work();
  ReadPiece* TakeLocked();
  void ReadPieceLocked(ReadPiece& piece, std::unique_lock<std::mutex>& lock);

  OpenFiles files_;
  const PreadFunction pread_;
  mutable std::mutex mutex_;
  std::condition_variable work_;       // something to read, or stopping
  std::condition_variable completed_;  // something to reap
  ReadQueue queue_;                    // guarded by mutex_
  std::vector<uint32_t> device_depth_;  // guarded by mutex_
  bool stopping_ = false;               // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace stoker
