// Products of F32, F16 and BF16 panels: the body and its contract are in lanes/plain_panel_body.h.

#include "runtime/kernels/lanes/plain_panel_body.h"

#include "runtime/kernels/avx512/kernels.h"
#include "runtime/kernels/avx512/panel_lanes.h"

namespace stoker::avx512 {
namespace {

struct Isa {
  using Lanes = PanelLanes;
  static constexpr int kMaxTokens = 6;  // whose four sums each leave registers for the weights
};

}  // namespace

void AddPlainPanels(KernelTable* table) { PlainPanelBody<Isa>::AddAll(table); }

}  // namespace stoker::avx512
