#include "numa/small_allocator.h"

#include <dlfcn.h>

#include <cstdlib>

namespace stoker {

SmallAllocator SmallAllocator::Detect() {
  SmallAllocator result;
  const auto version = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "mi_version"));
  const auto in_heap =
      reinterpret_cast<bool (*)(const void*)>(::dlsym(RTLD_DEFAULT, "mi_is_in_heap_region"));
  if (version == nullptr || in_heap == nullptr) return result;
  result.mimalloc_version = version();
  // Volatile, or the compiler removes the pair of calls and asks about a constant.
  void* volatile block = std::malloc(100);
  result.is_mimalloc = in_heap(block);
  std::free(block);
  return result;
}

std::string SmallAllocator::Describe() const {
  if (!is_mimalloc) return "system malloc";
  // Three digits per version up to 2.x, "MmmPP" scaled otherwise (30200 = 3.2.0).
  const int v = mimalloc_version;
  const int major = v < 1000 ? v / 100 : v / 10000;
  const int minor = v < 1000 ? v / 10 % 10 : v / 100 % 100;
  const int patch = v < 1000 ? v % 10 : v % 100;
  return "mimalloc " + std::to_string(major) + "." + std::to_string(minor) + "." +
         std::to_string(patch);
}

}  // namespace stoker
