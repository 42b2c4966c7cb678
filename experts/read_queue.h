#pragma once

// The part of a pager that does no I/O: requests in, aligned pieces out, results of the pieces in,
// completions out. Splits requests into pieces, keeps them first come first served per device,
// spreads a file with mirrors over its devices, continues short reads from the aligned-down offset,
// bounds retries, tries the other copies when one has failed, and reports a request only when none
// of its pieces is in flight. Shared by all pagers (and the fake one of the tests), so they behave
// alike. Fixed size: nothing is allocated after construction. Thread-compatible: a pager with
// threads guards it with its own mutex.

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "experts/pager.h"

namespace stoker {

// One I/O. While taken it belongs to whoever took it.
struct ReadPiece {
  uint32_t index = 0;    // in the pool: the user data of an I/O
  uint32_t request = 0;  // slot of the request it belongs to
  uint32_t handle = 0;   // open file (a replica of `file`)
  uint32_t device = 0;
  bool speculative = false;
  bool taken = false;
  uint64_t offset = 0;    // aligned
  uint64_t length = 0;    // aligned
  uint64_t required = 0;  // of `length`; the rest may lie beyond the end of the file
  std::byte* destination = nullptr;
  uint64_t done = 0;      // aligned; the next I/O is [done, length)
  // Attempts since the last progress, in all and by what went wrong.
  uint32_t attempts = 0;
  uint32_t empty = 0;    // 0 bytes
  uint32_t partial = 0;  // less than an aligned block
  uint32_t medium = 0;   // EIO
  uint32_t failovers = 0;  // copies given up
  std::chrono::nanoseconds backoff{0};  // before the next attempt

  uint64_t next_offset() const { return offset + done; }
  uint64_t next_length() const { return length - done; }
  std::byte* next_destination() const { return destination + done; }
};

// Where a file can be read.
struct ReadReplica {
  uint32_t handle = 0;
  uint32_t device = 0;
};

class ReadQueue {
 public:
  enum class Step : uint8_t {
    kAgain,     // issue next_*() now
    kLater,     // issue next_*() after `backoff`
    kElsewhere,  // as kAgain, on another copy of the file: this one's failed
    kFinished,  // the piece is back in the pool
  };

  // replicas[f]: of file f, at least one. max_pieces: taken at any one time.
  ReadQueue(std::vector<std::vector<ReadReplica>> replicas, uint64_t alignment,
            const PagerOptions& options, uint32_t max_pieces);

  void Push(const ReadRequest& request);
  // The next piece to read from `device`; nullptr when there is none, or the pool is empty. Pieces
  // of speculative requests only while no other piece of the device is taken, and at most
  // waiting_depth of them unless the oldest request is likely.
  ReadPiece* Take(uint32_t device);
  // What an I/O of [done, length) answered: bytes, or -errno.
  Step Advance(ReadPiece& piece, int64_t result);
  ReadPiece& piece(uint32_t index) { return pieces_[index]; }

  // As Pager's.
  void Promote(TagRange tags);
  uint64_t Drop(TagRange tags);
  bool PopCompletion(ReadCompletion* completion);
  bool has_speculation() const { return !uncut_speculative_.empty(); }
  bool has_completion() const { return completed_head_ != completed_tail_; }
  // Pieces not yet taken are never handed out; those taken go their way.
  void Cancel();

  uint32_t n_devices() const { return n_devices_; }
  size_t pending() const { return pending_; }       // pushed and not popped
  size_t in_flight() const { return in_flight_; }   // pieces taken
  PagerStats& stats() { return stats_; }
  const PagerStats& stats() const { return stats_; }

 private:
  struct Request {
    ReadRequest spec;
    uint64_t next = 0;  // aligned file offset of the first byte not yet cut into pieces
    uint64_t end = 0;   // aligned
    uint32_t pieces_open = 0;
    uint64_t bytes_done = 0;
    ReadStatus status = ReadStatus::kOk;
    int error = 0;
    uint64_t error_offset = 0;
  };

  struct Device {
    uint32_t taken = 0;  // pieces, those on speculation excluded
    uint32_t speculative = 0;
  };

  ReadPiece* Cut(std::vector<uint32_t>& uncut, uint32_t device);
  void CancelUncut(std::vector<uint32_t>& uncut, TagRange tags);
  Step Fail(ReadPiece& piece, ReadStatus status, int error);
  bool TurnToCopy(ReadPiece& piece);
  Step Retry(ReadPiece& piece);
  Step Finish(ReadPiece& piece);
  void Complete(uint32_t request);

  const std::vector<std::vector<ReadReplica>> replicas_;
  const uint64_t alignment_;
  const uint64_t piece_bytes_;
  const uint32_t guessed_depth_;
  uint32_t n_devices_ = 0;

  std::vector<Request> requests_;
  std::vector<uint32_t> free_requests_;
  std::vector<uint32_t> uncut_;  // requests with pieces to cut, oldest first
  std::vector<uint32_t> uncut_speculative_;
  std::vector<Device> devices_;
  std::vector<ReadPiece> pieces_;
  std::vector<uint32_t> free_pieces_;
  std::vector<ReadCompletion> completed_;  // ring, one larger than max_requests
  size_t completed_head_ = 0;
  size_t completed_tail_ = 0;
  size_t pending_ = 0;
  size_t in_flight_ = 0;
  std::chrono::steady_clock::time_point busy_since_;  // while in_flight_ > 0
  PagerStats stats_;
};

}  // namespace stoker
