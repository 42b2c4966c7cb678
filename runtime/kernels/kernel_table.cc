#include "runtime/kernels/kernel_table.h"

#include "runtime/kernels/isa_tables.h"

namespace stoker {

const KernelTable& KernelsFor(IsaLevel level) noexcept {
  switch (level) {
    case IsaLevel::kScalar: break;
    case IsaLevel::kAvx2: return avx2::Kernels();
    case IsaLevel::kAvx512: return avx512::Kernels();
  }
  return scalar::Kernels();
}

const KernelTable& ActiveKernels() {
  static const KernelTable& kernels = KernelsFor(ActiveIsaLevel());
  return kernels;
}

}  // namespace stoker
