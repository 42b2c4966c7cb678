#pragma once

// Which malloc the process runs on. The stoker binary links mimalloc (CMake target stoker_malloc),
// whose malloc and operator new take the place of glibc's because it comes earlier in the search
// order; whether that worked only shows at run time, which this file asks. Weights, slots and
// states never come from malloc (node_buffer.h). Thread-safe.

#include <string>

namespace stoker {

struct SmallAllocator {
  bool is_mimalloc = false;  // malloc'ed memory comes from mimalloc's heap
  int mimalloc_version = 0;  // 209 = 2.0.9; 0: the library is not in the process

  // Looks the library up by name, so that nothing needs to link it to ask.
  static SmallAllocator Detect();

  std::string Describe() const;  // "mimalloc 2.0.9", "system malloc"
};

}  // namespace stoker
