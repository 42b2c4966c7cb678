#pragma once

// Rows of one matrix read from disk as they are needed: the embedding, of which a token uses one
// row, so keeping all of it in memory would be a waste where memory is short. Owns a pager and room
// for a number of rows; borrows the weight store. Engine-thread only. It caches nothing.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "experts/pager.h"
#include "mmap/weight_store.h"
#include "numa/node_buffer.h"

namespace stoker {

class RowReader {
 public:
  // `pager` reads the file that `matrix` lies in, and no other. max_rows: of one Read.
  RowReader(const WeightStore& store, std::unique_ptr<Pager> pager, const StoredTensor& matrix,
            int64_t max_rows);

  // Reads these rows; row(i) is then rows[i], until the next call. Blocks. Throws
  // std::runtime_error naming file, tensor and offset when a read fails for good.
  void Read(std::span<const int32_t> rows);
  const std::byte* row(int64_t i) const { return places_[static_cast<size_t>(i)]; }

  static uint64_t MemoryBytes(const WeightStore& store, const Pager& pager,
                              const StoredTensor& matrix, int64_t max_rows);

 private:
  const WeightStore& store_;
  const FileExtent extent_;
  const uint64_t row_bytes_;
  const uint64_t place_bytes_;
  std::vector<const std::byte*> places_;
  std::vector<ReadRequest> requests_;
  NodeBuffer memory_;
  std::unique_ptr<Pager> pager_;  // after memory_: destroyed first
};

}  // namespace stoker
