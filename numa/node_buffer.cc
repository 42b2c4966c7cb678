#include "numa/node_buffer.h"

#include <linux/mempolicy.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/thread_team.h"

namespace stoker {
namespace {

constexpr size_t kHugePageBytes = 2 * kMiB;
constexpr size_t kSmallPageBytes = 4 * kKiB;
constexpr int kMaxNodes = 1024;  // The kernel's own limit (CONFIG_NODES_SHIFT 10).

[[noreturn]] void ThrowAllocation(std::string_view what, size_t bytes, int error) {
  throw std::system_error(error, std::generic_category(),
                          "mmap of " + FormatBytes(bytes) + " for " + std::string(what) +
                              " (lower --memory or free memory)");
}

using NodeMask = std::array<unsigned long, kMaxNodes / (sizeof(unsigned long) * CHAR_BIT)>;

NodeMask MaskOf(std::span<const int> os_nodes) {
  constexpr size_t kBitsPerWord = sizeof(unsigned long) * CHAR_BIT;
  NodeMask mask{};
  for (const int node : os_nodes) {
    STOKER_CHECK(node >= 0 && node < kMaxNodes);
    mask[static_cast<size_t>(node) / kBitsPerWord] |= 1UL
                                                      << (static_cast<size_t>(node) % kBitsPerWord);
  }
  return mask;
}

// Sets the memory policy of the range; false when the kernel does not let us, which it says once.
// The raw syscall keeps libnuma out of the program.
bool SetPolicy(void* address, size_t bytes, int policy, std::span<const int> os_nodes,
               std::string_view what) {
  const NodeMask mask = MaskOf(os_nodes);
  // The kernel looks at maxnode - 1 bits.
  if (::syscall(SYS_mbind, address, bytes, policy, mask.data(), kMaxNodes + 1, 0) == 0) return true;
  const int error = errno;
  // Containers filter the call, kernels without NUMA lack it, and every range is a mapping, of
  // which there may be too many: first touch places the pages then.
  const bool refused = error == EPERM || error == ENOSYS;
  if (refused || error == ENOMEM) {
    static std::atomic<bool> warned{false};
    if (!warned.exchange(true)) {
      spdlog::warn(
          "memory cannot be bound to NUMA nodes (mbind: {}); pages go where they are first "
          "touched. {}",
          std::strerror(error),
          refused ? "In a container: --cap-add SYS_NICE"
                  : "To mend it: sudo sysctl vm.max_map_count=1048576");
    }
    return false;
  }
  throw std::system_error(error, std::generic_category(),
                          "mbind of " + FormatBytes(bytes) + " for " + std::string(what) +
                              " to node " + std::to_string(os_nodes.front()));
}

// MPOL_PREFERRED, not MPOL_BIND: on a full node BIND calls the OOM killer although other nodes have
// room, PREFERRED takes a remote page, which the check after loading counts and reports.
bool BindToNode(void* address, size_t bytes, int node, std::string_view what) {
  return SetPolicy(address, bytes, MPOL_PREFERRED, {&node, 1}, what);
}

// Every range becomes a mapping of its own in the kernel's eyes; a quarter of what it allows is
// left to everything else.
size_t MaxRanges() {
  std::ifstream file("/proc/sys/vm/max_map_count");
  size_t count = 0;
  if (!(file >> count)) count = 65530;  // the kernel's default
  return count / 4 * 3;
}

}  // namespace

NodeBuffer NodeBuffer::Allocate(size_t bytes, std::string_view what, int node) {
  NodeBuffer buffer;
  if (bytes == 0) return buffer;
  const bool huge = bytes > kMiB;
  const size_t page_bytes = huge ? kHugePageBytes : kSmallPageBytes;
  const std::optional<uint64_t> mapped = CheckedAlignUp(bytes, page_bytes);
  // Room to cut the mapping to a huge page boundary: kernels before 6.7 do not align by themselves.
  const std::optional<uint64_t> reserved =
      mapped ? CheckedAdd(*mapped, huge ? kHugePageBytes : 0) : std::nullopt;
  if (!reserved) ThrowAllocation(what, bytes, ENOMEM);

  void* raw =
      ::mmap(nullptr, *reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) ThrowAllocation(what, bytes, errno);
  auto* begin = static_cast<std::byte*>(raw);
  const size_t head = AlignUp(reinterpret_cast<uintptr_t>(begin), uintptr_t{page_bytes}) -
                      reinterpret_cast<uintptr_t>(begin);
  const size_t tail = *reserved - *mapped - head;
  if (head > 0) ::munmap(begin, head);
  if (tail > 0) ::munmap(begin + head + *mapped, tail);
  buffer.data_ = begin + head;
  buffer.size_ = bytes;
  buffer.mapped_bytes_ = *mapped;

  // A kernel without transparent huge pages answers EINVAL; small pages are slower, not wrong.
  if (huge) ::madvise(buffer.data_, buffer.mapped_bytes_, MADV_HUGEPAGE);
  if (node >= 0) {
    BindToNode(buffer.data_, buffer.mapped_bytes_, node, what);
    buffer.bound_ranges_ = {{0, buffer.mapped_bytes_, node}};
  }
  return buffer;
}

void NodeBuffer::Bind(const PagePlan& plan, std::string_view what) {
  bound_ranges_ = plan.Ranges(mapped_bytes_, kSmallPageBytes);
  if (const size_t most = MaxRanges(); bound_ranges_.size() > most) {
    spdlog::warn(
        "{} would need {} mappings of the {} that vm.max_map_count leaves; parts of matrices are "
        "rounded to huge pages. To mend it: sudo sysctl vm.max_map_count={}",
        what, bound_ranges_.size(), most, 4 * bound_ranges_.size());
    bound_ranges_ = plan.Ranges(mapped_bytes_, kHugePageBytes);
  }
  for (const PagePlan::Range& range : bound_ranges_) {
    if (range.os_node < 0) continue;
    if (!BindToNode(data_ + range.begin, range.end - range.begin, range.os_node, what)) return;
  }
}

void NodeBuffer::Interleave(const std::vector<int>& os_nodes, std::string_view what) {
  if (os_nodes.empty() || mapped_bytes_ == 0) return;
  SetPolicy(data_, mapped_bytes_, MPOL_INTERLEAVE, os_nodes, what);
}

NodeBuffer::NodeBuffer(NodeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
      bound_ranges_(std::move(other.bound_ranges_)) {}

NodeBuffer& NodeBuffer::operator=(NodeBuffer&& other) noexcept {
  // Through a temporary, so that the old memory goes back now and not with `other`.
  NodeBuffer taken(std::move(other));
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(mapped_bytes_, taken.mapped_bytes_);
  std::swap(bound_ranges_, taken.bound_ranges_);
  return *this;
}

NodeBuffer::~NodeBuffer() {
  if (data_ != nullptr) ::munmap(data_, mapped_bytes_);
}

void FirstTouch(ThreadTeam& team, NodeBuffer& buffer) {
  std::byte* const data = buffer.data();
  const auto bytes = static_cast<int64_t>(buffer.size());
  team.Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(bytes, static_cast<int64_t>(kHugePageBytes));
    // A write, because reading would only map the shared zero page. Volatile keeps the store of an
    // unchanged value.
    for (int64_t at = begin; at < end; at += static_cast<int64_t>(kSmallPageBytes)) {
      auto* byte = reinterpret_cast<volatile unsigned char*>(data + at);
      *byte = *byte;
    }
  });
}

}  // namespace stoker
