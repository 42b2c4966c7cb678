#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/lanes/attention_ops_body.h"
#include "runtime/kernels/avx2/lanes.h"

namespace stoker::avx2 {
namespace {

struct Isa {
  using Lanes = avx2::Lanes;
  static constexpr int kRows = 4;
};

}  // namespace

constinit const AttentionOps kAttentionOps = AttentionOpsBody<Isa>::Table();

}  // namespace stoker::avx2
