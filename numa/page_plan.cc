#include "numa/page_plan.h"

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

void AddPieces(PagePlan& plan, const std::vector<Partition::Piece>& pieces, uint64_t begin,
               uint64_t item_bytes) {
  for (const Partition::Piece& piece : pieces) {
    plan.From(begin + static_cast<uint64_t>(piece.begin) * item_bytes, piece.os_node);
  }
}

}  // namespace

void PagePlan::From(uint64_t begin, int os_node) {
  STOKER_CHECK(starts_.empty() || starts_.back().begin <= begin);
  starts_.push_back({begin, os_node});
}

void PagePlan::AddItems(const Partition& partition, uint64_t begin, uint64_t item_bytes, int64_t n,
                        int64_t unit) {
  AddPieces(*this, partition.MemoryOf(n, unit), begin, item_bytes);
}

void PagePlan::AddRows(const Partition& partition, uint64_t begin, uint64_t row_bytes, int64_t rows,
                       int64_t unit) {
  AddPieces(*this, partition.MemoryOfRows(rows, unit), begin, row_bytes);
}

void PagePlan::AddStripes(const Partition& partition, uint64_t begin, uint64_t bytes) {
  const std::vector<int>& nodes = partition.stripe_nodes();
  STOKER_CHECK(!nodes.empty());
  for (uint64_t at = 0, i = 0; at < bytes; at += kStripeBytes, ++i) {
    From(begin + at, nodes[i % nodes.size()]);
  }
}

std::vector<PagePlan::Range> PagePlan::Ranges(uint64_t bytes, uint64_t page_bytes) const {
  std::vector<Range> ranges;
  for (const Start& start : starts_) {
    const uint64_t page = AlignDown(start.begin, page_bytes);
    if (page >= bytes) break;
    while (!ranges.empty() && ranges.back().begin == page) ranges.pop_back();
    if (!ranges.empty() && ranges.back().os_node == start.os_node) continue;
    ranges.push_back({page, bytes, start.os_node});
  }
  for (size_t i = 0; i + 1 < ranges.size(); ++i) ranges[i].end = ranges[i + 1].begin;
  return ranges;
}

}  // namespace stoker
