#pragma once

// The model that the end-to-end tests run. For tests only; not thread-safe.

#include <string>

namespace stoker::test {

// Path of a model of 8 layers and 32 experts, a few megabytes, written by the binary once a
// process. From then on the user's directories (XDG_STATE_HOME, XDG_CACHE_HOME) are the tests' own.
// Throws std::runtime_error when it cannot be made.
const std::string& Model();

}  // namespace stoker::test
