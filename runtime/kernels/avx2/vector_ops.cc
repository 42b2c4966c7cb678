#include "runtime/kernels/avx2/lanes.h"
#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/lanes/vector_ops_body.h"

namespace stoker::avx2 {

constinit const VectorOps kVectorOps = VectorOpsBody<Lanes>::Table();

}  // namespace stoker::avx2
