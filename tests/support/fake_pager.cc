#include "tests/support/fake_pager.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace stoker::testing {
namespace {

constexpr uint32_t kMaxDepth = 64;

}  // namespace

FakePager::FakePager(std::span<const PagerFile> files, const FakeDevice& device,
                     const PagerOptions& options)
    : files_(OpenFiles::Open(files, false)),
      device_(device),
      queue_(files_.replicas(), files_.alignment(), options, kMaxDepth),
      random_(device.seed) {
  taken_.reserve(kMaxDepth);
}

FakePager::~FakePager() {
  queue_.Cancel();
  while (Step()) {
  }
}

void FakePager::Submit(std::span<const ReadRequest> requests) {
  for (const ReadRequest& request : requests) queue_.Push(request);
  if (device_.refuse_submit > 0 && --device_.refuse_submit == 0) {
    throw std::system_error(EAGAIN, std::generic_category(), "fake submit");
  }
}

// One I/O; false when there is nothing to do.
bool FakePager::Step() {
  while (taken_.size() < std::min(device_.depth, kMaxDepth)) {
    ReadPiece* piece = nullptr;
    for (uint32_t d = 0; d < queue_.n_devices() && piece == nullptr; ++d) piece = queue_.Take(d);
    if (piece == nullptr) break;
    taken_.push_back(piece);
  }
  if (taken_.empty()) return false;
  const size_t pick = device_.reorder ? Below(taken_.size()) : 0;
  ReadPiece* piece = taken_[pick];
  if (queue_.Advance(*piece, Answer(*piece)) == ReadQueue::Step::kFinished) {
    taken_.erase(taken_.begin() + static_cast<ptrdiff_t>(pick));
  }
  return true;
}

int64_t FakePager::Answer(const ReadPiece& piece) {
  ++io_count_;
  const uint64_t length = piece.next_length();
  if (device_.fail_from != 0 && io_count_ >= device_.fail_from &&
      io_count_ - device_.fail_from < device_.fail_count) {
    std::memset(piece.next_destination(), 0xEE, length);
    return -device_.fail_error;
  }
  if (Chance(device_.transient_rate)) {
    constexpr int kErrors[] = {EAGAIN, EINTR, ENOMEM};
    return -kErrors[Below(3)];
  }
  if (Chance(device_.empty_rate)) return 0;
  uint64_t want = length;
  if (Chance(device_.short_rate)) {
    const uint64_t lengths[] = {1, 511, 512, 4096, length - 1, 100000, 1 + Below(length - 1)};
    want = std::clamp<uint64_t>(lengths[Below(std::size(lengths))], 1, length);
  }
  const ssize_t n = ::pread(files_.handles()[piece.handle].fd.get(), piece.next_destination(), want,
                            static_cast<off_t>(piece.next_offset()));
  return n < 0 ? -static_cast<int64_t>(errno) : n;
}

size_t FakePager::Reap(std::span<ReadCompletion> out, bool wait) {
  if (!wait && device_.eager) {
    for (uint64_t i = Below(4); i > 0; --i) Step();
  }
  while (wait && !queue_.has_completion() && Step()) {
  }
  size_t n = 0;
  while (n < out.size() && queue_.PopCompletion(&out[n])) ++n;
  return n;
}

}  // namespace stoker::testing
