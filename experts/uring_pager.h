#pragma once

// The io_uring pager: direct reads through one ring, used by one thread at a time, with registered
// files, and registered buffers where the memlock limit allows. See pager.h for the contract.

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experts/open_files.h"
#include "experts/pager.h"
#include "experts/read_queue.h"

namespace stoker {

class Ring;

class UringPager final : public Pager {
 public:
  // Throws std::system_error when the ring cannot be set up (EPERM, ENOSYS, ENOMEM) or a real read
  // of any of the files through it fails (EOPNOTSUPP, ...).
  UringPager(OpenFiles files, const PagerOptions& options);
  ~UringPager() override;

  IoBackend backend() const override { return IoBackend::kUring; }
  uint64_t alignment() const override { return files_.alignment(); }
  std::string Describe() const override;
  void RegisterMemory(std::span<std::byte> memory) override;
  void Submit(std::span<const ReadRequest> requests) override;
  size_t Reap(std::span<ReadCompletion> out, bool wait) override;
  void FillQueues() override { Issue(depth_); }
  size_t pending() const override { return queue_.pending(); }
  void CancelQueued() override { queue_.Cancel(); }
  void Promote(TagRange tags) override;
  uint64_t Drop(TagRange tags) override { return queue_.Drop(tags); }
  PagerStats stats() const override { return queue_.stats(); }

 private:
  using Clock = std::chrono::steady_clock;

  void ProbeFiles();
  void Prepare(ReadPiece& piece);
  void Handle(ReadPiece& piece, int64_t result);
  void Harvest();
  void Issue(uint32_t depth);
  size_t InKernel() const;  // pieces that it has and must give back
  void WaitForCompletion();

  OpenFiles files_;
  ReadQueue queue_;
  std::unique_ptr<Ring> ring_;
  std::span<std::byte> registered_;     // in segments of kSegmentBytes
  std::vector<uint32_t> device_depth_;  // pieces in flight, delayed ones included, per device
  uint32_t depth_;
  uint32_t waiting_depth_;  // while the caller looks for completions
  struct Delayed {
    uint32_t piece;
    Clock::time_point due;
  };
  std::vector<Delayed> delayed_;
  std::optional<Clock::time_point> refused_since_;  // while the kernel accepts nothing
};

}  // namespace stoker
