#pragma once

// A pager whose device is a die: seeded, single-threaded, without a clock. Reads the real bytes of
// a file, then answers short, with transient errors, with nothing, in any order, or with EIO on the
// n-th I/O, through the same ReadQueue as the real pagers. Failed destinations are filled with
// garbage, so that using them shows. For tests of everything above a pager, up to the engine.

#include <sys/types.h>

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "experts/open_files.h"
#include "experts/pager.h"
#include "experts/read_queue.h"

namespace stoker::testing {

struct FakeDevice {
  uint64_t seed = 1;
  bool reorder = true;          // completes pieces in random order
  bool eager = true;            // does some I/Os although nobody waits for them
  uint32_t depth = 8;           // pieces in flight
  double short_rate = 0.0;      // of I/Os: answered with 1 .. length - 1 bytes of any length
  double empty_rate = 0.0;      // answered with 0 although there is more
  double transient_rate = 0.0;  // EAGAIN, EINTR, ENOMEM
  uint64_t fail_from = 0;       // n-th I/O, counted from 1; 0 = none
  uint64_t fail_count = 1;      // how many from there on; UINT64_MAX = for good
  int fail_error = 5;           // EIO
  uint64_t refuse_submit = 0;   // n-th Submit from now on takes its requests and throws; 0 = none
};

class FakePager final : public Pager {
 public:
  FakePager(std::span<const PagerFile> files, const FakeDevice& device,
            const PagerOptions& options = {});
  ~FakePager() override;

  IoBackend backend() const override { return IoBackend::kMapped; }
  uint64_t alignment() const override { return files_.alignment(); }
  std::string Describe() const override { return "fake"; }
  void Submit(std::span<const ReadRequest> requests) override;
  // Without `wait` a random number of I/Os happens, possibly none.
  size_t Reap(std::span<ReadCompletion> out, bool wait) override;
  size_t pending() const override { return queue_.pending(); }
  void CancelQueued() override { queue_.Cancel(); }
  void Promote(TagRange tags) override { queue_.Promote(tags); }
  uint64_t Drop(TagRange tags) override { return queue_.Drop(tags); }
  PagerStats stats() const override { return queue_.stats(); }

  uint64_t io_count() const { return io_count_; }
  FakeDevice& device() { return device_; }  // may be changed at any time

 private:
  bool Step();
  int64_t Answer(const ReadPiece& piece);
  bool Chance(double rate) { return std::uniform_real_distribution<>(0, 1)(random_) < rate; }
  uint64_t Below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }

  OpenFiles files_;
  FakeDevice device_;
  ReadQueue queue_;
  std::mt19937_64 random_;
  std::vector<ReadPiece*> taken_;
  uint64_t io_count_ = 0;
};

}  // namespace stoker::testing
