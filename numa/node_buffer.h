#pragma once

// A move-only block of anonymous memory in huge pages where the system grants them (transparent
// huge pages by madvise), optionally bound to NUMA nodes, as a whole or page by page. It remembers
// what it was bound to, so that page_check.h can compare. The memory is zero. Not thread-safe;
// the bytes are whatever their user makes them. It never swaps budgets: check memory_limits.h
// before allocating.

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "numa/page_plan.h"

namespace stoker {

class NodeBuffer {
 public:
  NodeBuffer() = default;
  // Reserves `bytes` (rounded up to 2 MiB pages when above 1 MiB). `what` names the buffer in
  // errors. node < 0: no binding, first touch decides; otherwise the OS index of the node that the
  // pages shall come from as long as it has free ones. Throws std::system_error naming `what` and
  // the size. Binding that the kernel refuses (EPERM in containers) degrades to first touch, with
  // one log line per process.
  static NodeBuffer Allocate(size_t bytes, std::string_view what, int node = -1);

  // Before the pages are touched: every page shall come from the node that the plan names. Refusal
  // as in Allocate. Where the plan has more ranges than the kernel allows a process mappings, cuts
  // are rounded to huge pages, with one log line.
  void Bind(const PagePlan& plan, std::string_view what);
  // Before the pages are touched: pages come from these nodes in turn. No nodes: nothing happens.
  void Interleave(const std::vector<int>& os_nodes, std::string_view what);

  // Ascending; what was asked for, whether or not the kernel obeyed. Empty: not bound by ranges.
  const std::vector<PagePlan::Range>& bound_ranges() const { return bound_ranges_; }

  NodeBuffer(NodeBuffer&& other) noexcept;
  NodeBuffer& operator=(NodeBuffer&& other) noexcept;
  NodeBuffer(const NodeBuffer&) = delete;
  NodeBuffer& operator=(const NodeBuffer&) = delete;
  ~NodeBuffer();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }  // as asked for
  std::span<std::byte> span() const { return {data_, size_}; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  size_t mapped_bytes_ = 0;
  std::vector<PagePlan::Range> bound_ranges_;
};

class ThreadTeam;

// Faults every page of `buffer` in, worker w touching its share of the 2 MiB pages, so that an
// unbound buffer lies where its workers run and no page fault falls into timed code. Contents are
// kept. Engine thread only, as ThreadTeam::Run.
void FirstTouch(ThreadTeam& team, NodeBuffer& buffer);

}  // namespace stoker
