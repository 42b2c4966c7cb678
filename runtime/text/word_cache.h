#pragma once

// Remembers the tokens of short pieces, since most of a text is words seen before. A fixed number
// of entries, each one cache line; a new word takes the place of whatever lay in its slot. One per
// thread at a time (part of the tokenizer's scratch); not thread-safe.

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/text/token_id.h"

namespace stoker {

class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 30;
  static constexpr size_t kMaxTokens = 8;

  // hash: always the same one for a word. Empty when the word is not here; words are at most
  // kMaxWordBytes long.
  std::span<const TokenId> Find(std::string_view word, uint64_t hash) const {
    const Entry& entry = entries_[hash % kEntries];
    if (entry.n_bytes != word.size() ||
        std::memcmp(entry.bytes.data(), word.data(), word.size()) != 0) {
      return {};
    }
    return {entry.ids.data(), entry.n_ids};
  }

  // Ignores what does not fit.
  void Store(std::string_view word, uint64_t hash, std::span<const TokenId> ids) {
    if (ids.size() > kMaxTokens) return;
    Entry& entry = entries_[hash % kEntries];
    entry.n_bytes = static_cast<uint8_t>(word.size());
    entry.n_ids = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.bytes.data(), word.data(), word.size());
    std::memcpy(entry.ids.data(), ids.data(), ids.size_bytes());
  }

 private:
  static constexpr size_t kEntries = 1 << 13;  // 512 KiB: stays in a second-level cache

  struct alignas(64) Entry {
    std::array<TokenId, kMaxTokens> ids;
    std::array<char, kMaxWordBytes> bytes;
    uint8_t n_bytes = 0;
    uint8_t n_ids = 0;
  };
  static_assert(sizeof(Entry) == 64);

  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

}  // namespace stoker
