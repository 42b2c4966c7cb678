#pragma once

// The common form into which every quantised format is unpacked before integer products: 256
// unsigned codes in the order of the row, and per 16 elements a scale and an additive term, so that
// w[i] = scale[i / 16] * code[i] + add[i / 16]. Signed formats have add = -offset * scale. Scalar;
// the vector files have the same function over registers.

#include <cstddef>
#include <cstdint>

#include "mmap/dtype.h"

namespace stoker::scalar {

struct UnpackedGroup {
  uint8_t codes[256];
  float scale[16];
  float add[16];
};

// Unpacks n elements (a multiple of the block length, at most 256) at `blocks`; the rest of the
// group becomes zero.
void UnpackGroup(DType type, const std::byte* blocks, int64_t n, UnpackedGroup* out);

}  // namespace stoker::scalar
