#include "runtime/kernels/avx2/kernels.h"

#include "runtime/kernels/isa_tables.h"

namespace stoker::avx2 {
namespace {

KernelTable MakeTable() {
  KernelTable table{};
  table.level = IsaLevel::kAvx2;
  table.quantize_q8 = QuantizeQ8;
  AddPanelProducts(&table);
  AddDotF32(&table);
  AddPlainPanels(&table);
  return table;
}

}  // namespace

const KernelTable& Kernels() noexcept {
  static const KernelTable table = MakeTable();
  return table;
}

}  // namespace stoker::avx2
