#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/lanes/attention_ops_body.h"
#include "runtime/kernels/avx2/lanes.h"

namespace stoker::avx2 {

constinit const AttentionOps kAttentionOps = AttentionOpsBody<Lanes, 4>::Table();

}  // namespace stoker::avx2
