#include "runtime/kernels/avx512/kernels.h"

#include "runtime/kernels/isa_tables.h"

namespace stoker::avx512 {
namespace {

KernelTable MakeTable() {
  KernelTable table{};
  table.level = IsaLevel::kAvx512;
  table.quantize_q8 = QuantizeQ8;
  AddPanelProducts(&table);
  AddScaledProducts(&table);
  AddDotF32(&table);
  AddPlainPanels(&table);
  return table;
}

}  // namespace

const KernelTable& Kernels() noexcept {
  static const KernelTable table = MakeTable();
  return table;
}

}  // namespace stoker::avx512
