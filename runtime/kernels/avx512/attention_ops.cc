#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/lanes/attention_ops_body.h"
#include "runtime/kernels/avx512/lanes.h"

namespace stoker::avx512 {

constinit const AttentionOps kAttentionOps = AttentionOpsBody<Lanes, 8>::Table();

}  // namespace stoker::avx512
