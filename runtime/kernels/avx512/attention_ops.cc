#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/lanes/attention_ops_body.h"
#include "runtime/kernels/avx512/lanes.h"

namespace stoker::avx512 {
namespace {

struct Isa {
  using Lanes = avx512::Lanes;
  static constexpr int kRows = 8;
};

}  // namespace

constinit const AttentionOps kAttentionOps = AttentionOpsBody<Isa>::Table();

}  // namespace stoker::avx512
