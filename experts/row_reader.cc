#include "experts/row_reader.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr size_t kMaxPending = 256;

// The alignment puts a row anywhere in its first block.
uint64_t PlaceBytes(const WeightStore& store, const Pager& pager, const StoredTensor& matrix) {
  return PaddedBytes(pager.alignment() - 1, store.View(matrix).row_bytes(), pager.alignment());
}

}  // namespace

uint64_t RowReader::MemoryBytes(const WeightStore& store, const Pager& pager,
                                const StoredTensor& matrix, int64_t max_rows) {
  return PlaceBytes(store, pager, matrix) * static_cast<uint64_t>(max_rows);
}

RowReader::RowReader(const WeightStore& store, std::unique_ptr<Pager> pager,
                     const StoredTensor& matrix, int64_t max_rows)
    : store_(store),
      extent_(matrix.extent),
      row_bytes_(store.View(matrix).row_bytes()),
      place_bytes_(PlaceBytes(store, *pager, matrix)),
      places_(static_cast<size_t>(max_rows)),
      // From 2 MiB on a buffer is aligned enough for any pager.
      memory_(NodeBuffer::Allocate(std::max(MemoryBytes(store, *pager, matrix, max_rows), 2 * kMiB),
                                   "rows of " + matrix.name)),
      pager_(std::move(pager)) {
  requests_.reserve(static_cast<size_t>(max_rows));
}

void RowReader::Read(std::span<const int32_t> rows) {
  STOKER_CHECK(rows.size() <= places_.size());
  requests_.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint64_t offset = extent_.offset + static_cast<uint64_t>(rows[i]) * row_bytes_;
    STOKER_CHECK(rows[i] >= 0 && offset + row_bytes_ <= extent_.offset + extent_.bytes);
    std::byte* const place = memory_.data() + i * place_bytes_;
    places_[i] = place + offset % pager_->alignment();
    requests_.push_back({0, offset, row_bytes_, place, i});
  }
  std::array<ReadCompletion, 64> completions;
  // What a call that threw has left behind is not ours, but reads into the same places.
  while (pager_->pending() > 0) pager_->Reap(completions, true);
  // A pager takes a bounded number at a time.
  ReadCompletion failure;
  size_t submitted = 0;
  for (size_t done = 0; done < requests_.size();) {
    while (submitted < requests_.size() && pager_->pending() < kMaxPending) {
      pager_->Submit({&requests_[submitted++], 1});
    }
    pager_->FillQueues();
    const size_t n = pager_->Reap(completions, true);
    for (size_t i = 0; i < n; ++i) {
      if (completions[i].status != ReadStatus::kOk) failure = completions[i];
    }
    done += n;
  }
  if (failure.status != ReadStatus::kOk) {
    failure.file = extent_.file;
    throw std::runtime_error(ReadErrorMessage(store_, failure));
  }
}

}  // namespace stoker
