#include "experts/pread_pager.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "numa/affinity.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr std::chrono::seconds kStallNotice{5};

}  // namespace

PreadPager::PreadPager(OpenFiles files, const PagerOptions& options, PreadFunction pread)
    : files_(std::move(files)),
      pread_(pread ? std::move(pread) : PreadFunction(::pread)),
      queue_(files_.replicas(), files_.alignment(), options, options.threads),
      device_depth_(files_.n_devices(), 0) {
  threads_.reserve(options.threads);
  try {
    for (uint32_t i = 0; i < options.threads; ++i) {
      threads_.emplace_back([this] { Work(); });
      ::pthread_setname_np(threads_.back().native_handle(), "stoker-io");
    }
  } catch (...) {
    Stop();
    throw;
  }
}

PreadPager::~PreadPager() { Stop(); }

// A pread in progress is waited for: its destination belongs to it until it returns.
void PreadPager::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    queue_.Cancel();
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::string PreadPager::Describe() const {
  return "pread pool of " + std::to_string(threads_.size()) + " threads, O_DIRECT";
}

// From the device with the fewest reads in flight, so several drives run side by side.
ReadPiece* PreadPager::TakeLocked() {
  ReadPiece* best = nullptr;
  uint32_t tried = 0;  // bit mask of devices without work
  const auto n_devices = static_cast<uint32_t>(device_depth_.size());
  for (uint32_t round = 0; round < n_devices && best == nullptr; ++round) {
    uint32_t least = n_devices;
    for (uint32_t device = 0; device < n_devices; ++device) {
      if ((tried >> device & 1U) != 0) continue;
      if (least == n_devices || device_depth_[device] < device_depth_[least]) least = device;
    }
    best = queue_.Take(least);
    tried |= 1U << least;
  }
  return best;
}

void PreadPager::Work() {
  UnbindThisThread();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    ReadPiece* piece = TakeLocked();
    if (piece == nullptr) {
      work_.wait(lock);
      continue;
    }
    ReadPieceLocked(*piece, lock);
  }
}

// Reads the piece to its end or its failure. Enters and leaves with the lock held.
void PreadPager::ReadPieceLocked(ReadPiece& piece, std::unique_lock<std::mutex>& lock) {
  const uint32_t device = piece.device;
  ++device_depth_[device];
  ReadQueue::Step step = ReadQueue::Step::kAgain;
  while (step != ReadQueue::Step::kFinished) {
    if (step == ReadQueue::Step::kLater) {
      // A stop ends the wait early; the piece is then cut short by its request's state or by one
      // more attempt.
      work_.wait_for(lock, piece.backoff, [this] { return stopping_; });
      if (stopping_) {
        step = queue_.Advance(piece, -ECANCELED);
        continue;
      }
    }
    lock.unlock();
    const ssize_t n = pread_(files_.handles()[piece.handle].fd.get(), piece.next_destination(),
                             piece.next_length(), static_cast<off_t>(piece.next_offset()));
    const int64_t result = n < 0 ? -static_cast<int64_t>(errno) : n;
    lock.lock();
    const uint32_t handle = piece.handle;
    step = queue_.Advance(piece, result);
    if (step == ReadQueue::Step::kElsewhere) files_.NoteFailover(handle, piece.handle);
  }
  --device_depth_[device];
  // The others may have found nothing but speculative reads, and this device busy.
  if (queue_.has_speculation()) work_.notify_all();
  if (queue_.has_completion()) completed_.notify_one();
}

void PreadPager::Submit(std::span<const ReadRequest> requests) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const ReadRequest& request : requests) queue_.Push(request);
  }
  work_.notify_all();
}

size_t PreadPager::Reap(std::span<ReadCompletion> out, bool wait) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (wait) {
    const auto ready = [this] { return queue_.has_completion() || queue_.pending() == 0; };
    while (!completed_.wait_for(lock, kStallNotice, ready)) {
      spdlog::warn("io: no read has completed for {} s, {} in flight; still waiting",
                   kStallNotice.count(), queue_.in_flight());
    }
  }
  size_t n = 0;
  while (n < out.size() && queue_.PopCompletion(&out[n])) ++n;
  return n;
}

size_t PreadPager::pending() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return queue_.pending();
}

void PreadPager::Promote(TagRange tags) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.Promote(tags);
  }
  work_.notify_all();
}

uint64_t PreadPager::Drop(TagRange tags) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return queue_.Drop(tags);
}

void PreadPager::CancelQueued() {
  const std::lock_guard<std::mutex> lock(mutex_);
  queue_.Cancel();
}

PagerStats PreadPager::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return queue_.stats();
}

}  // namespace stoker
