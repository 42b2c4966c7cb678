#pragma once

// A move-only block of anonymous memory in huge pages where the system grants them (transparent
// huge pages by madvise), optionally bound to a NUMA node. The memory is zero. Not thread-safe;
// the bytes are whatever their user makes them. It never swaps budgets: check memory_limits.h
// before allocating.

#include <cstddef>
#include <span>
#include <string_view>

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
};

class ThreadTeam;

// Faults every page of `buffer` in, worker w touching its share of the 2 MiB pages, so that an
// unbound buffer lies where its workers run and no page fault falls into timed code. Contents are
// kept. Engine thread only, as ThreadTeam::Run.
void FirstTouch(ThreadTeam& team, NodeBuffer& buffer);

}  // namespace stoker
