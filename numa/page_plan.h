#pragma once

// Which NUMA node each page of a buffer shall come from: built beside the layout of the bytes, by
// rows as the partition cuts them or in stripes, then given to NodeBuffer::Bind. A plain value. A
// page in which a cut falls belongs to the part that begins there.

#include <cstdint>
#include <span>
#include <vector>

#include "numa/partition.h"

namespace stoker {

class PagePlan {
 public:
  struct Range {
    uint64_t begin = 0;  // bytes from the start of the buffer, multiples of a page
    uint64_t end = 0;
    int os_node = -1;  // -1: not bound
    friend bool operator==(const Range&, const Range&) = default;
  };

  // From this byte on the pages belong to `os_node`, up to the next call. Calls ascend.
  void From(uint64_t begin, int os_node);
  // Things of equal size that lie one behind the other, such as heads: cut at multiples of `unit`.
  void AddItems(const Partition& partition, uint64_t begin, uint64_t item_bytes, int64_t n,
                int64_t unit = 1);
  // A matrix, cut as Partition::Rows does.
  void AddRows(const Partition& partition, uint64_t begin, uint64_t row_bytes, int64_t rows,
               int64_t unit = 1);
  // Stripes of 2 MiB in turn over the partition's stripe nodes.
  void AddStripes(const Partition& partition, uint64_t begin, uint64_t bytes);

  bool empty() const { return starts_.empty(); }
  // Neighbours of one node joined, cuts rounded down to `page_bytes`, the last one ending at
  // `bytes`.
  std::vector<Range> Ranges(uint64_t bytes, uint64_t page_bytes) const;

 private:
  struct Start {
    uint64_t begin = 0;
    int os_node = -1;
  };
  std::vector<Start> starts_;
};

}  // namespace stoker
