#pragma once

// Token ids as arguments: "1,2,3" or "@FILE" with numbers separated by commas or white space. Pure
// apart from reading the file; thread-safe.

#include <string>
#include <vector>

#include "runtime/text/token_id.h"

namespace stoker {

// Throws UsageError naming the first thing that is no token id; std::runtime_error when the file
// cannot be read.
std::vector<TokenId> ParseTokenIds(const std::string& argument);

}  // namespace stoker
