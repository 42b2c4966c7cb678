// What is chosen against one table does not crowd another.

#include "runtime/text/keyed_hash.h"

#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr uint64_t kPlaces = 1 << 17;
constexpr size_t kChosen = 4000;

// How many places of a table with a hash of its own these take.
template <typename Key>
size_t CountPlaces(const std::vector<Key>& keys) {
  const KeyedHash hash;
  std::set<uint64_t> places;
  for (const Key& key : keys) places.insert(hash(key) % kPlaces);
  return places.size();
}

}  // namespace

TEST_CASE("words and numbers that share a few places under one key are spread under another") {
  const KeyedHash aimed_at;
  const uint64_t seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  std::vector<std::string> words;
  while (words.size() < kChosen) {
    std::string word(4 + random() % 12, '\0');
    for (char& c : word) c = static_cast<char>('a' + random() % 26);
    if (aimed_at(word) % kPlaces < kPlaces / 128) words.push_back(word);
  }
  std::vector<uint64_t> pairs;
  while (pairs.size() < kChosen) {
    const uint64_t pair = (random() % (1 << 18)) << 32 | random() % (1 << 18);
    if (aimed_at(pair) % kPlaces < kPlaces / 128) pairs.push_back(pair);
  }
  // Of as many at random, some 60 meet another.
  CHECK(CountPlaces(words) > kChosen * 19 / 20);
  CHECK(CountPlaces(pairs) > kChosen * 19 / 20);
}

TEST_CASE("a hash is that of its bytes, wherever they end") {
  const KeyedHash hash;
  const std::string text = "0123456789abcdef";
  std::set<uint64_t> values;
  for (size_t n = 0; n <= text.size(); ++n) {
    const std::string copy = text.substr(0, n);
    CHECK(hash(copy) == hash(std::string_view(text).substr(0, n)));
    values.insert(hash(copy));
    values.insert(hash(copy + std::string(1, '\0')));
  }
  CHECK(values.size() == 2 * (text.size() + 1));
}

}  // namespace stoker
