#include "experts/read_queue.h"

#include <algorithm>
#include <cerrno>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

// Attempts of one I/O without progress before it fails. A tag-starved device answers EAGAIN for as
// long as it is starved (a burst of other readers: seconds), so that bound is a long one: with the
// back-off below 60 attempts are about five seconds. A bad sector stays bad: two more attempts
// tell it from a hiccup of the transport. An empty read, or one that ends inside a sector over and
// over, is the end of a shrunken file, unless the file system is playing tricks (FUSE with cached
// attributes), so ask again a few times.
constexpr uint32_t kMaxAttempts = 60;
constexpr uint32_t kMaxMedium = 3;
constexpr uint32_t kMaxEmpty = 4;
constexpr uint32_t kMaxPartial = 16;
constexpr std::chrono::microseconds kFirstBackoff{50};
constexpr uint32_t kBackoffDoublings = 11;  // 50 us ... 102 ms

bool IsTransient(int error) {
  return error == EAGAIN || error == EINTR || error == ENOMEM || error == EBUSY ||
         error == ENOBUFS;
}

}  // namespace

ReadQueue::ReadQueue(std::vector<std::vector<ReadReplica>> replicas, uint64_t alignment,
                     const PagerOptions& options, uint32_t max_pieces)
    : replicas_(std::move(replicas)),
      alignment_(alignment),
      piece_bytes_(options.piece_bytes),
      guessed_depth_(options.waiting_depth) {
  const uint32_t max_requests = options.max_requests;
  STOKER_CHECK(alignment_ > 0 && piece_bytes_ > 0 && piece_bytes_ % alignment_ == 0);
  STOKER_CHECK(max_requests > 0 && max_pieces > 0);
  for (const std::vector<ReadReplica>& of_file : replicas_) {
    STOKER_CHECK(!of_file.empty());
    for (const ReadReplica& replica : of_file) {
      n_devices_ = std::max(n_devices_, replica.device + 1);
    }
  }
  requests_.resize(max_requests);
  free_requests_.reserve(max_requests);
  for (uint32_t i = max_requests; i > 0; --i) free_requests_.push_back(i - 1);
  uncut_.reserve(max_requests);
  uncut_speculative_.reserve(max_requests);
  devices_.resize(n_devices_);
  pieces_.resize(max_pieces);
  free_pieces_.reserve(max_pieces);
  for (uint32_t i = max_pieces; i > 0; --i) free_pieces_.push_back(i - 1);
  completed_.resize(max_requests + 1);
}

void ReadQueue::Push(const ReadRequest& request) {
  STOKER_CHECK_MSG(pending_ < requests_.size(), "more than max_requests reads pending");
  STOKER_CHECK(request.file < replicas_.size() && request.bytes > 0);
  STOKER_CHECK_MSG(reinterpret_cast<uintptr_t>(request.destination) % alignment_ == 0,
                   "unaligned destination");
  const uint32_t slot = free_requests_.back();
  free_requests_.pop_back();
  Request& state = requests_[slot];
  state = Request{};
  state.spec = request;
  state.next = AlignDown(request.offset, alignment_);
  state.end = AlignUp(request.offset + request.bytes, alignment_);
  (request.urgency == ReadUrgency::kDemanded ? uncut_ : uncut_speculative_).push_back(slot);
  ++pending_;
}

ReadPiece* ReadQueue::Take(uint32_t device) {
  if (free_pieces_.empty()) return nullptr;
  Device& state = devices_[device];
  if (ReadPiece* piece = Cut(uncut_, device); piece != nullptr) {
    ++state.taken;
    return piece;
  }
  if (state.taken > 0 || uncut_speculative_.empty()) return nullptr;
  const ReadUrgency urgency = requests_[uncut_speculative_.front()].spec.urgency;
  if (urgency == ReadUrgency::kGuessed && state.speculative >= guessed_depth_) return nullptr;
  ReadPiece* piece = Cut(uncut_speculative_, device);
  if (piece == nullptr) return nullptr;
  piece->speculative = true;
  ++state.speculative;
  return piece;
}

ReadPiece* ReadQueue::Cut(std::vector<uint32_t>& uncut, uint32_t device) {
  for (auto it = uncut.begin(); it != uncut.end(); ++it) {
    Request& request = requests_[*it];
    const std::vector<ReadReplica>& of_file = replicas_[request.spec.file];
    const auto replica =
        std::find_if(of_file.begin(), of_file.end(),
                     [device](const ReadReplica& candidate) { return candidate.device == device; });
    if (replica == of_file.end()) continue;

    ReadPiece& piece = pieces_[free_pieces_.back()];
    const uint32_t index = free_pieces_.back();
    free_pieces_.pop_back();
    const uint64_t first = AlignDown(request.spec.offset, alignment_);
    piece = ReadPiece{};
    piece.index = index;
    piece.taken = true;
    piece.request = *it;
    piece.handle = replica->handle;
    piece.device = device;
    piece.offset = request.next;
    piece.length = std::min(piece_bytes_, request.end - request.next);
    piece.required =
        std::min(piece.length, request.spec.offset + request.spec.bytes - request.next);
    piece.destination = request.spec.destination + (request.next - first);
    request.next += piece.length;
    ++request.pieces_open;
    if (in_flight_++ == 0) busy_since_ = std::chrono::steady_clock::now();
    ++stats_.reads;
    if (request.next == request.end) uncut.erase(it);
    return &piece;
  }
  return nullptr;
}

ReadQueue::Step ReadQueue::Advance(ReadPiece& piece, int64_t result) {
  Request& request = requests_[piece.request];
  if (result > 0) {
    STOKER_CHECK(static_cast<uint64_t>(result) <= piece.next_length());
    stats_.bytes_read += static_cast<uint64_t>(result);
    request.bytes_done += static_cast<uint64_t>(result);
    const uint64_t arrived = piece.done + static_cast<uint64_t>(result);
    if (arrived >= piece.required) return Finish(piece);
    ++stats_.short_reads;
    if (request.status != ReadStatus::kOk) return Finish(piece);
    // A direct read may end anywhere, but must go on from an aligned place.
    const uint64_t aligned = AlignDown(arrived, alignment_);
    if (aligned == piece.done) {
      if (++piece.partial >= kMaxPartial) return Fail(piece, ReadStatus::kShrank, 0);
      return Retry(piece);
    }
    piece.done = aligned;
    piece.attempts = piece.empty = piece.partial = piece.medium = 0;
    ++stats_.reads;
    return Step::kAgain;
  }
  if (request.status != ReadStatus::kOk) return Finish(piece);
  if (result == 0) {
    if (++piece.empty >= kMaxEmpty) return Fail(piece, ReadStatus::kShrank, 0);
    return Retry(piece);
  }
  const int error = static_cast<int>(-result);
  const bool give_up = error == EIO ? ++piece.medium >= kMaxMedium
                                    : !IsTransient(error) || piece.attempts + 1 >= kMaxAttempts;
  return give_up ? Fail(piece, ReadStatus::kError, error) : Retry(piece);
}

ReadQueue::Step ReadQueue::Retry(ReadPiece& piece) {
  piece.backoff = kFirstBackoff * (1 << std::min(piece.attempts, kBackoffDoublings));
  ++piece.attempts;
  ++stats_.retries;
  ++stats_.reads;
  return Step::kLater;
}

// The piece goes on from the next copy of its file, unless all have failed. It still counts as its
// device's: a copy is turned to rarely.
bool ReadQueue::TurnToCopy(ReadPiece& piece) {
  const std::vector<ReadReplica>& of_file = replicas_[requests_[piece.request].spec.file];
  if (++piece.failovers >= of_file.size()) return false;
  const auto failed =
      std::find_if(of_file.begin(), of_file.end(), [&](const ReadReplica& replica) {
        return replica.handle == piece.handle;
      });
  piece.handle = failed + 1 == of_file.end() ? of_file.front().handle : failed[1].handle;
  piece.attempts = piece.empty = piece.partial = piece.medium = 0;
  ++stats_.failovers;
  ++stats_.reads;
  return true;
}

ReadQueue::Step ReadQueue::Fail(ReadPiece& piece, ReadStatus status, int error) {
  if (error != ECANCELED && TurnToCopy(piece)) return Step::kElsewhere;
  Request& request = requests_[piece.request];
  request.status = status;
  request.error = error;
  request.error_offset = std::max(piece.next_offset(), request.spec.offset);
  // The rest of the request is not worth reading.
  if (request.next != request.end) {
    request.next = request.end;
    for (std::vector<uint32_t>* uncut : {&uncut_, &uncut_speculative_}) {
      std::erase(*uncut, piece.request);
    }
  }
  return Finish(piece);
}

ReadQueue::Step ReadQueue::Finish(ReadPiece& piece) {
  const uint32_t slot = piece.request;
  piece.taken = false;
  free_pieces_.push_back(piece.index);
  if (--in_flight_ == 0) {
    const std::chrono::nanoseconds busy = std::chrono::steady_clock::now() - busy_since_;
    stats_.reading_ns += static_cast<uint64_t>(busy.count());
  }
  Device& device = devices_[piece.device];
  --(piece.speculative ? device.speculative : device.taken);
  Request& request = requests_[slot];
  --request.pieces_open;
  if (request.pieces_open == 0 && request.next == request.end) Complete(slot);
  return Step::kFinished;
}

void ReadQueue::Complete(uint32_t slot) {
  const Request& request = requests_[slot];
  if (request.status == ReadStatus::kOk) ++stats_.requests;
  if (request.status == ReadStatus::kError || request.status == ReadStatus::kShrank) {
    ++stats_.failed;
  }
  completed_[completed_tail_] = {request.spec.tag, request.status, request.error,
                                 request.spec.file, request.error_offset, request.bytes_done};
  completed_tail_ = (completed_tail_ + 1) % completed_.size();
  free_requests_.push_back(slot);
}

bool ReadQueue::PopCompletion(ReadCompletion* completion) {
  if (!has_completion()) return false;
  *completion = completed_[completed_head_];
  completed_head_ = (completed_head_ + 1) % completed_.size();
  --pending_;
  return true;
}

void ReadQueue::Cancel() {
  CancelUncut(uncut_, {0, UINT64_MAX});
  CancelUncut(uncut_speculative_, {0, UINT64_MAX});
}

void ReadQueue::CancelUncut(std::vector<uint32_t>& uncut, TagRange tags) {
  std::erase_if(uncut, [&](uint32_t slot) {
    Request& request = requests_[slot];
    if (!tags.Contains(request.spec.tag)) return false;
    request.status = ReadStatus::kCancelled;
    request.error_offset = std::max(request.next, request.spec.offset);
    request.next = request.end;
    if (request.pieces_open == 0) Complete(slot);
    return true;
  });
}

void ReadQueue::Promote(TagRange tags) {
  // The order among themselves stays. Pieces in flight count as speculative until they end.
  std::erase_if(uncut_speculative_, [&](uint32_t slot) {
    if (!tags.Contains(requests_[slot].spec.tag)) return false;
    uncut_.push_back(slot);
    return true;
  });
}

uint64_t ReadQueue::Drop(TagRange tags) {
  CancelUncut(uncut_speculative_, tags);
  uint64_t in_flight = 0;
  for (const ReadPiece& piece : pieces_) {
    if (piece.taken && tags.Contains(requests_[piece.request].spec.tag)) {
      in_flight += piece.next_length();
    }
  }
  return in_flight;
}

}  // namespace stoker
