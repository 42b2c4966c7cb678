#pragma once

// Where the pages of a buffer really are, asked of the kernel (move_pages without a target), beside
// where they were to be. Pages of large buffers are sampled evenly. Thread-safe; changes nothing.

#include <cstdint>
#include <string>
#include <vector>

#include "numa/node_buffer.h"

namespace stoker {

struct PageCheck {
  uint64_t bytes = 0;             // touched pages that were looked at; nothing else counts below
  uint64_t on_plan = 0;           // bytes on the node they were bound to
  uint64_t not_bound = 0;         // bytes that may lie anywhere
  std::vector<uint64_t> on_node;  // bytes by OS index of the node
  bool refused = false;           // the kernel does not tell (seccomp)

  PageCheck& operator+=(const PageCheck& other);
  // Of the bound pages; 1 when there are none.
  double fraction_on_plan() const;
  // "99.9 % of weight pages on plan (node 0: 7.1 GiB, node 1: 7.1 GiB)".
  std::string Format(const std::string& what) const;
};

// Looks at every page up to `max_pages` of them, and evenly at that many of more.
PageCheck CheckPages(const NodeBuffer& buffer, uint64_t max_pages = 1'000'000);

}  // namespace stoker
