#pragma once

// The number of a token: a row of the embedding and an index into the logits. A plain value shared
// by everything that speaks of tokens; the model's own header declares the same alias.

#include <cstdint>

namespace stoker {

using TokenId = int32_t;

}  // namespace stoker
