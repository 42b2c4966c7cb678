#include "runtime/kernels/avx512/lanes.h"
#include "runtime/kernels/isa_tables.h"
#include "runtime/kernels/lanes/vector_ops_body.h"

namespace stoker::avx512 {

constinit const VectorOps kVectorOps = VectorOpsBody<Lanes>::Table();

}  // namespace stoker::avx512
