#include "numa/page_check.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "numa/bytes.h"

namespace stoker {
namespace {

constexpr uint64_t kPageBytes = 4 * kKiB;
constexpr size_t kBatch = 4096;

// Node of each page, or a negative errno (ENOENT: not touched). False when the kernel refuses.
bool QueryNodes(std::span<void*> pages, std::span<int> nodes) {
  return ::syscall(SYS_move_pages, 0, pages.size(), pages.data(), nullptr, nodes.data(), 0) == 0;
}

}  // namespace

PageCheck& PageCheck::operator+=(const PageCheck& other) {
  bytes += other.bytes;
  on_plan += other.on_plan;
  not_bound += other.not_bound;
  on_node.resize(std::max(on_node.size(), other.on_node.size()), 0);
  for (size_t i = 0; i < other.on_node.size(); ++i) on_node[i] += other.on_node[i];
  refused = refused || other.refused;
  return *this;
}

double PageCheck::fraction_on_plan() const {
  const uint64_t bound = bytes - not_bound;
  return bound > 0 ? static_cast<double>(on_plan) / static_cast<double>(bound) : 1.0;
}

std::string PageCheck::Format(const std::string& what) const {
  if (refused) return "where " + what + " pages are is not known (move_pages refused)";
  std::string text;
  if (bytes > not_bound) {
    char percent[32];
    // Rounded down: 100.0 means all of them.
    std::snprintf(percent, sizeof(percent), "%.1f",
                  static_cast<double>(static_cast<int>(1000 * fraction_on_plan())) / 10);
    text = std::string(percent) + " % of " + what + " pages on plan (";
  } else {
    text = what + " pages, not bound (";
  }
  bool first = true;
  for (size_t node = 0; node < on_node.size(); ++node) {
    if (on_node[node] == 0) continue;
    text += std::string(first ? "" : ", ") + "node " + std::to_string(node) + ": " +
            FormatBytes(on_node[node]);
    first = false;
  }
  return text + ")";
}

PageCheck CheckPages(const NodeBuffer& buffer, uint64_t max_pages) {
  PageCheck check;
  const uint64_t n_pages = DivCeil<uint64_t>(buffer.size(), kPageBytes);
  if (n_pages == 0) return check;
  const uint64_t step = DivCeil(n_pages, std::max<uint64_t>(max_pages, 1));
  const uint64_t step_bytes = step * kPageBytes;
  const std::vector<PagePlan::Range>& ranges = buffer.bound_ranges();
  size_t range = 0;
  std::array<void*, kBatch> pages;
  std::array<int, kBatch> nodes;
  for (uint64_t first = 0; first < n_pages; first += step * kBatch) {
    const auto count =
        static_cast<size_t>(std::min<uint64_t>(kBatch, DivCeil(n_pages - first, step)));
    for (size_t i = 0; i < count; ++i) {
      pages[i] = buffer.data() + (first + i * step) * kPageBytes;
    }
    if (!QueryNodes(std::span(pages).first(count), nodes)) {
      check.refused = true;
      return check;
    }
    for (size_t i = 0; i < count; ++i) {
      if (nodes[i] < 0) continue;
      const uint64_t at = (first + i * step) * kPageBytes;
      while (range < ranges.size() && ranges[range].end <= at) ++range;
      const bool is_bound =
          range < ranges.size() && ranges[range].begin <= at && ranges[range].os_node >= 0;
      const auto node = static_cast<size_t>(nodes[i]);
      if (check.on_node.size() <= node) check.on_node.resize(node + 1, 0);
      check.bytes += step_bytes;
      check.on_node[node] += step_bytes;
      if (!is_bound) check.not_bound += step_bytes;
      if (is_bound && ranges[range].os_node == nodes[i]) check.on_plan += step_bytes;
    }
  }
  return check;
}

}  // namespace stoker
