#include "experts/uring_pager.h"

#include <liburing.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

// The kernel takes at most 1 GiB per registered buffer.
constexpr uint64_t kSegmentBytes = kGiB;
constexpr std::chrono::seconds kStallNotice{5};
// How long the kernel may take nothing (EAGAIN, ENOMEM) before that is an error.
constexpr std::chrono::seconds kLongestRefusal{30};

std::system_error RingError(int error, const std::string& what) {
  return std::system_error(error, std::generic_category(), what);
}

}  // namespace

// Owns one ring. Reads still in flight must have been reaped before it goes.
class Ring {
 public:
  explicit Ring(uint32_t entries) {
    // Completions are only looked for when we ask, so the kernel need not interrupt the compute
    // threads. SINGLE_ISSUER and DEFER_TASKRUN would tie the ring to the thread that opened it,
    // which need not be the one that decodes, and gain nothing at 2 MiB a read.
    io_uring_params params{};
    params.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    int result = ::io_uring_queue_init_params(entries, &ring_, &params);
    if (result == -EINVAL) {  // before Linux 5.19
      params = {};
      result = ::io_uring_queue_init_params(entries, &ring_, &params);
    }
    if (result < 0) throw RingError(-result, "io_uring_setup");
  }
  // The kernel takes a closed ring apart later, in a thread of its own, and until then what is
  // registered stays: gigabytes pinned, and files open, after the process is gone.
  ~Ring() {
    ::io_uring_unregister_buffers(&ring_);  // refused where there are none
    ::io_uring_unregister_files(&ring_);
    ::io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring* get() { return &ring_; }
  bool fixed_files = false;

 private:
  io_uring ring_{};
};

UringPager::UringPager(OpenFiles files, const PagerOptions& options)
    : files_(std::move(files)),
      queue_(files_.replicas(), files_.alignment(), options,
             options.depth * std::max(files_.n_devices(), 1U)),
      device_depth_(files_.n_devices(), 0),
      depth_(options.depth),
      waiting_depth_(std::min(options.depth, options.waiting_depth)) {
  const uint32_t entries = options.depth * std::max(files_.n_devices(), 1U);
  // The completion ring has twice as many, and never more than `entries` are in flight: it cannot
  // overflow.
  ring_ = std::make_unique<Ring>(entries);
  delayed_.reserve(entries);
  std::vector<int> fds;
  fds.reserve(files_.handles().size());
  for (const OpenFiles::Handle& handle : files_.handles()) fds.push_back(handle.fd.get());
  ring_->fixed_files =
      !fds.empty() && ::io_uring_register_files(ring_->get(), fds.data(),
                                                static_cast<unsigned>(fds.size())) == 0;
  ProbeFiles();
}

// Setting up proves nothing: a file system may refuse the operation itself.
void UringPager::ProbeFiles() {
  const uint64_t bytes = files_.alignment();
  const AlignedBlock block = AllocateBlock(bytes);
  for (const OpenFiles::Handle& handle : files_.handles()) {
    for (int attempt = 0;; ++attempt) {
      io_uring_sqe* sqe = ::io_uring_get_sqe(ring_->get());
      ::io_uring_prep_read(sqe, handle.fd.get(), block.get(), static_cast<unsigned>(bytes), 0);
      io_uring_cqe* cqe = nullptr;
      int result = 0;
      do {
        result = ::io_uring_submit_and_wait(ring_->get(), 1);
        if (result >= 0) result = ::io_uring_wait_cqe(ring_->get(), &cqe);
      } while (result == -EINTR);
      if (result < 0) throw RingError(-result, "io_uring_enter");
      result = cqe->res;
      ::io_uring_cqe_seen(ring_->get(), cqe);
      if (result >= 0) break;
      const bool transient = result == -EAGAIN || result == -EINTR || result == -EIO;
      if (!transient || attempt == 9) {
        throw RingError(-result, "io_uring read of " + handle.path.string());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1 << attempt));
    }
  }
}

UringPager::~UringPager() {
  // Memory under a read belongs to the kernel until its completion arrives, cancelled or not.
  // Reads of regular files can rarely be cancelled, so the requests are forgotten and the pieces
  // waited for.
  queue_.Cancel();
  try {
    ReadCompletion completions[16];
    while (queue_.pending() > 0) Reap(completions, true);
  } catch (const std::exception& error) {
    // Leaving would hand memory under I/O back to the allocator.
    STOKER_CHECK_MSG(InKernel() == 0, error.what());
  }
}

std::string UringPager::Describe() const {
  std::string text = "io_uring, O_DIRECT";
  if (!registered_.empty()) text += ", registered buffers";
  return text;
}

void UringPager::RegisterMemory(std::span<std::byte> memory) {
  STOKER_CHECK(registered_.empty() && queue_.pending() == 0);
  std::vector<iovec> segments;
  for (uint64_t begin = 0; begin < memory.size(); begin += kSegmentBytes) {
    segments.push_back({memory.data() + begin, std::min(kSegmentBytes, memory.size() - begin)});
  }
  const int result = ::io_uring_register_buffers(ring_->get(), segments.data(),
                                                 static_cast<unsigned>(segments.size()));
  if (result == 0) {
    registered_ = memory;
    return;
  }
  // Usual for an ordinary user: pinned memory is charged to RLIMIT_MEMLOCK, 8 MiB by default.
  spdlog::debug("io: buffers not registered ({}); reading without", std::strerror(-result));
}

void UringPager::Prepare(ReadPiece& piece) {
  io_uring_sqe* sqe = ::io_uring_get_sqe(ring_->get());
  STOKER_CHECK_MSG(sqe != nullptr, "submission ring full");
  const int fd = ring_->fixed_files ? static_cast<int>(piece.handle)
                                    : files_.handles()[piece.handle].fd.get();
  const auto bytes = static_cast<unsigned>(piece.next_length());
  std::byte* destination = piece.next_destination();
  // Wraps to a large number below the registered memory.
  const uint64_t begin = reinterpret_cast<uintptr_t>(destination) -
                         reinterpret_cast<uintptr_t>(registered_.data());
  const bool inside = begin < registered_.size() && bytes <= registered_.size() - begin;
  if (inside && begin / kSegmentBytes == (begin + bytes - 1) / kSegmentBytes) {
    ::io_uring_prep_read_fixed(sqe, fd, destination, bytes, piece.next_offset(),
                               static_cast<int>(begin / kSegmentBytes));
  } else {
    ::io_uring_prep_read(sqe, fd, destination, bytes, piece.next_offset());
    ++queue_.stats().unregistered;
  }
  if (ring_->fixed_files) sqe->flags |= IOSQE_FIXED_FILE;
  sqe->user_data = piece.index;
}

void UringPager::Handle(ReadPiece& piece, int64_t result) {
  const uint32_t device = piece.device;
  const uint32_t handle = piece.handle;
  switch (queue_.Advance(piece, result)) {
    case ReadQueue::Step::kElsewhere:
      files_.NoteFailover(handle, piece.handle);
      [[fallthrough]];
    case ReadQueue::Step::kAgain:
      Prepare(piece);
      break;
    case ReadQueue::Step::kLater:
      delayed_.push_back({piece.index, Clock::now() + piece.backoff});
      break;
    case ReadQueue::Step::kFinished:
      --device_depth_[device];
      break;
  }
}

void UringPager::Harvest() {
  io_uring_cqe* cqe = nullptr;
  while (::io_uring_peek_cqe(ring_->get(), &cqe) == 0) {
    ReadPiece& piece = queue_.piece(static_cast<uint32_t>(cqe->user_data));
    const int result = cqe->res;
    ::io_uring_cqe_seen(ring_->get(), cqe);
    Handle(piece, result);
  }
  STOKER_CHECK_MSG(*ring_->get()->cq.koverflow == 0, "completion ring overflow");
}

void UringPager::Issue(uint32_t depth) {
  if (!delayed_.empty()) {
    const Clock::time_point now = Clock::now();
    std::erase_if(delayed_, [&](const Delayed& delayed) {
      if (delayed.due > now) return false;
      Prepare(queue_.piece(delayed.piece));
      return true;
    });
  }
  for (uint32_t device = 0; device < device_depth_.size(); ++device) {
    while (device_depth_[device] < depth) {
      ReadPiece* piece = queue_.Take(device);
      if (piece == nullptr) break;
      ++device_depth_[device];
      Prepare(*piece);
    }
  }
  if (::io_uring_sq_ready(ring_->get()) == 0) return;
  const int result = ::io_uring_submit(ring_->get());
  // EBUSY, EAGAIN and ENOMEM pass; what was prepared stays in the ring for the next call.
  if (result < 0 && result != -EAGAIN && result != -EBUSY && result != -EINTR &&
      result != -ENOMEM) {
    throw RingError(-result, "io_uring_enter");
  }
  if (result >= 0) {
    refused_since_.reset();
    return;
  }
  ++queue_.stats().retries;
  if (!refused_since_) refused_since_ = Clock::now();
  if (Clock::now() - *refused_since_ > kLongestRefusal) {
    throw RingError(-result, "io_uring_enter, for " + std::to_string(kLongestRefusal.count()) +
                                 " s; --io pread does without it");
  }
}

size_t UringPager::InKernel() const {
  return queue_.in_flight() - delayed_.size() - ::io_uring_sq_ready(ring_->get());
}

void UringPager::WaitForCompletion() {
  Clock::duration timeout = kStallNotice;
  for (const Delayed& delayed : delayed_) {
    timeout = std::min<Clock::duration>(timeout, delayed.due - Clock::now());
  }
  if (InKernel() == 0) {
    // Everything waits for its back-off, or for the kernel to accept it.
    constexpr Clock::duration kPause = std::chrono::milliseconds(1);
    std::this_thread::sleep_for(delayed_.empty() ? kPause : std::max(timeout, kPause / 20));
    return;
  }
  timeout = std::max<Clock::duration>(timeout, std::chrono::microseconds(1));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  __kernel_timespec limit{};
  limit.tv_sec = seconds.count();
  limit.tv_nsec = std::chrono::nanoseconds(timeout - seconds).count();
  io_uring_cqe* cqe = nullptr;
  const int result = ::io_uring_wait_cqe_timeout(ring_->get(), &cqe, &limit);
  if (result == -ETIME && delayed_.empty()) {
    spdlog::warn("io: no read has completed for {} s, {} in flight; still waiting",
                 kStallNotice.count(), queue_.in_flight());
  }
  if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN &&
      result != -EBUSY) {
    throw RingError(-result, "io_uring_enter");
  }
}

void UringPager::Submit(std::span<const ReadRequest> requests) {
  for (const ReadRequest& request : requests) queue_.Push(request);
  Issue(waiting_depth_);
}

void UringPager::Promote(TagRange tags) {
  queue_.Promote(tags);
  Issue(waiting_depth_);
}

size_t UringPager::Reap(std::span<ReadCompletion> out, bool wait) {
  for (;;) {
    Harvest();
    Issue(waiting_depth_);
    size_t n = 0;
    while (n < out.size() && queue_.PopCompletion(&out[n])) ++n;
    if (n > 0 || !wait || queue_.pending() == 0) return n;
    WaitForCompletion();
  }
}

}  // namespace stoker
