#pragma once

// What the values of options may be, where several commands take the same kind. Pure functions;
// thread-safe.

#include <cstdint>
#include <limits>
#include <string>

namespace CLI {
class App;
}
namespace CLI {
class Option;
}
namespace CLI {
class Validator;
}

namespace stoker {

inline constexpr int64_t kLargestSeed = std::numeric_limits<int64_t>::max();

// For Option::check: whole numbers from `low` to `high`, written in decimal digits. CLI11 alone
// would take 010 for eight and 0x10 for sixteen, and for a number too large the largest there is.
CLI::Validator WholeNumber(int64_t low, int64_t high);

// -s, --seed of what is made or measured and the same every time; samplers have their own, which
// may be random (common_options.h).
CLI::Option* AddSeed(CLI::App& app, uint64_t* seed, const std::string& help);

}  // namespace stoker
