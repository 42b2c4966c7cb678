#include "runtime/text/keyed_hash.h"

#include <cstddef>
#include <cstring>
#include <random>

namespace stoker {

KeyedHash::KeyedHash() {
  std::random_device entropy;
  const auto draw = [&entropy] { return uint64_t{entropy()} << 32 | uint64_t{entropy()}; };
  start_ = draw();
  // Odd and with the highest bit, so that no key loses bits of a word.
  multiplier_ = draw() | 1u | (uint64_t{1} << 63);
}

uint64_t KeyedHash::operator()(std::string_view bytes) const {
  // Eight bytes at a time; words are short, so there is no longer stride.
  uint64_t hash = start_ ^ bytes.size();
  const char* p = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; p += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    hash = Mix(hash, word);
  }
  uint64_t tail = 0;
  if (left > 0) std::memcpy(&tail, p, left);
  return Mix(hash, tail);
}

}  // namespace stoker
