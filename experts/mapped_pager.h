#pragma once

// The page-cache pager: reads through the kernel's cache, asking for each extent ahead of time and
// dropping its pages once copied, so memory stays within the budget. The oracle of the tests, and
// the fallback where a file system refuses direct I/O. Copies with pread rather than from a
// mapping: a truncated file is then an error and not SIGBUS, or zeros. See pager.h; engine-thread
// only, without threads of its own.

#include <span>
#include <string>
#include <vector>

#include "experts/open_files.h"
#include "experts/pager.h"
#include "experts/pread_pager.h"
#include "experts/read_queue.h"

namespace stoker {

class MappedPager final : public Pager {
 public:
  MappedPager(OpenFiles files, const PagerOptions& options, PreadFunction pread = {});

  IoBackend backend() const override { return IoBackend::kMapped; }
  uint64_t alignment() const override { return files_.alignment(); }
  std::string Describe() const override { return "page cache"; }
  void Submit(std::span<const ReadRequest> requests) override;
  // Copies only when `wait`; without it, returns what an earlier call has left.
  size_t Reap(std::span<ReadCompletion> out, bool wait) override;
  size_t pending() const override { return queue_.pending(); }
  void CancelQueued() override { queue_.Cancel(); }
  void Promote(TagRange tags) override { queue_.Promote(tags); }
  uint64_t Drop(TagRange tags) override { return queue_.Drop(tags); }
  PagerStats stats() const override { return queue_.stats(); }

 private:
  void ReadNextPiece();

  OpenFiles files_;
  const PreadFunction pread_;
  ReadQueue queue_;
};

}  // namespace stoker
