#include "experts/mapped_pager.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "numa/check.h"

namespace stoker {

MappedPager::MappedPager(OpenFiles files, const PagerOptions& options, PreadFunction pread)
    : files_(std::move(files)),
      pread_(pread ? std::move(pread) : PreadFunction(::pread)),
      queue_(files_.replicas(), files_.alignment(), options, 1) {}

void MappedPager::Submit(std::span<const ReadRequest> requests) {
  for (const ReadRequest& request : requests) {
    queue_.Push(request);
    // Measured: asking for the whole extent at once is three times the speed of the kernel's own
    // read-ahead. A refusal only costs that.
    const std::vector<ReadReplica>& replicas = files_.replicas()[request.file];
    const auto read_from = std::min_element(  // as ReadNextPiece will
        replicas.begin(), replicas.end(),
        [](const ReadReplica& a, const ReadReplica& b) { return a.device < b.device; });
    ::posix_fadvise(files_.handles()[read_from->handle].fd.get(),
                    static_cast<off_t>(request.offset), static_cast<off_t>(request.bytes),
                    POSIX_FADV_WILLNEED);
  }
}

void MappedPager::ReadNextPiece() {
  ReadPiece* piece = nullptr;
  for (uint32_t device = 0; device < queue_.n_devices() && piece == nullptr; ++device) {
    piece = queue_.Take(device);
  }
  STOKER_CHECK(piece != nullptr);
  uint32_t handle = piece->handle;
  const auto begin = static_cast<off_t>(piece->offset);
  const auto bytes = static_cast<off_t>(piece->length);
  ReadQueue::Step step = ReadQueue::Step::kAgain;
  while (step != ReadQueue::Step::kFinished) {
    if (step == ReadQueue::Step::kLater) std::this_thread::sleep_for(piece->backoff);
    if (step == ReadQueue::Step::kElsewhere) {
      files_.NoteFailover(handle, piece->handle);
      handle = piece->handle;
    }
    const ssize_t n =
        pread_(files_.handles()[handle].fd.get(), piece->next_destination(), piece->next_length(),
               static_cast<off_t>(piece->next_offset()));
    step = queue_.Advance(*piece, n < 0 ? -static_cast<int64_t>(errno) : n);
  }
  ::posix_fadvise(files_.handles()[handle].fd.get(), begin, bytes, POSIX_FADV_DONTNEED);
}

size_t MappedPager::Reap(std::span<ReadCompletion> out, bool wait) {
  while (wait && !queue_.has_completion() && queue_.pending() > 0) ReadNextPiece();
  size_t n = 0;
  while (n < out.size() && queue_.PopCompletion(&out[n])) ++n;
  return n;
}

}  // namespace stoker
