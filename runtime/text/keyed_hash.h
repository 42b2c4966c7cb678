#pragma once

// A hash that no file can aim at: its key is drawn when it is made, so that words chosen to crowd
// one place of a table are spread over the next. Values differ from run to run, and nothing that is
// printed, stored or encoded may depend on them. A plain value; thread-safe.

#include <cstdint>
#include <string_view>

namespace stoker {

__extension__ using Uint128 = unsigned __int128;

class KeyedHash {
 public:
  // With a key of its own from the system's entropy.
  KeyedHash();

  uint64_t operator()(std::string_view bytes) const;
  uint64_t operator()(uint64_t number) const { return Mix(start_, number); }

 private:
  // Multiplies by the key and folds the product, so that every bit of it is in the low ones.
  uint64_t Mix(uint64_t hash, uint64_t word) const {
    const auto product = static_cast<Uint128>(hash ^ word) * multiplier_;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  uint64_t start_ = 0;
  uint64_t multiplier_ = 0;
};

}  // namespace stoker
