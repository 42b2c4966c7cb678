#pragma once

// The plain matmul: every weight row is dequantised to f32 by the scalar code that defines the
// formats and multiplied in f32 lanes with f64 totals. Oracle of the fast backend and its fallback;
// slow on purpose.

#include <cstdint>
#include <memory>

#include "runtime/matmul/matmul_backend.h"

namespace stoker {

// Takes any computable type and any m. n_workers is the size of the team that will call Multiply;
// max_cols the longest weight row. Throws std::bad_alloc.
std::unique_ptr<MatmulBackend> MakeReferenceBackend(int n_workers, int64_t max_cols);

}  // namespace stoker
