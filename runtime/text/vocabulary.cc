#include "runtime/text/vocabulary.h"

#include <algorithm>
#include <bit>

#include "mmap/format_error.h"
#include "numa/check.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/utf8.h"

namespace stoker {

void Vocabulary::ByteMap::Reserve(size_t n) {
  slots.assign(std::bit_ceil(std::max<size_t>(16, n * 2)), -1);
}

size_t Vocabulary::FindSlot(const ByteMap& map, std::string_view key) const {
  const size_t mask = map.slots.size() - 1;
  size_t slot = hash_(key) & mask;
  while (map.slots[slot] >= 0 && bytes(map.slots[slot]) != key) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::Insert(ByteMap& map, TokenId id, const VocabularySource& source) {
  const size_t slot = FindSlot(map, bytes(id));
  if (map.slots[slot] >= 0) {
    throw FormatError(source.file, source.vocab_field,
                      "ids " + std::to_string(map.slots[slot]) + " and " + std::to_string(id) +
                          " have the same spelling '" + Printable(bytes(id)) + "'");
  }
  map.slots[slot] = id;
}

Vocabulary::Vocabulary(const VocabularySource& source, int64_t vocab_size) {
  const auto fail = [&](const std::string& reason) {
    throw FormatError(source.file, source.vocab_field, reason);
  };
  // 1. One row per id.
  TokenId largest = -1;
  uint64_t text_bytes = 0;
  for (const VocabularyToken& token : source.tokens) {
    const std::string name = "token '" + Printable(token.text) + "'";
    if (token.id < 0 || token.id > kMaxTokenId) {
      fail(name + " has id " + std::to_string(token.id) + ", the limit is " +
           std::to_string(kMaxTokenId));
    }
    if (vocab_size > 0 && token.id >= vocab_size) {
      fail(name + " has id " + std::to_string(token.id) + " but the model's vocabulary has " +
           std::to_string(vocab_size) + " rows");
    }
    largest = std::max(largest, token.id);
    text_bytes += token.text.size();
  }
  if (largest < 0) fail("holds no tokens");
  STOKER_CHECK(text_bytes <= UINT32_MAX);  // Both readers refuse far less.
  if (vocab_size > kMaxTokenId + 1) {
    fail("the model's " + std::to_string(vocab_size) + " rows are more than the limit, " +
         std::to_string(kMaxTokenId + 1));
  }
  const auto n_rows = static_cast<size_t>(std::max<int64_t>(vocab_size, largest + 1));
  std::vector<int32_t> row_of(n_rows, -1);  // id -> index into source.tokens
  for (size_t i = 0; i < source.tokens.size(); ++i) {
    const TokenId id = source.tokens[i].id;
    if (row_of[id] >= 0) {
      fail("id " + std::to_string(id) + " is given to '" +
           Printable(source.tokens[row_of[id]].text) + "' and to '" +
           Printable(source.tokens[i].text) + "'");
    }
    row_of[id] = static_cast<int32_t>(i);
  }

  // 2. Bytes, in id order so that neighbours in the table are neighbours in memory.
  kinds_.assign(n_rows, TokenKind::kUnused);
  begins_.assign(n_rows + 1, 0);
  arena_.reserve(text_bytes);
  std::vector<TokenId> normal;
  size_t n_added = 0;
  for (size_t id = 0; id < n_rows; ++id) {
    begins_[id] = static_cast<uint32_t>(arena_.size());
    if (row_of[id] < 0) continue;
    const VocabularyToken& token = source.tokens[row_of[id]];
    if (token.kind == TokenKind::kUnused) continue;
    if (token.text.empty()) fail("id " + std::to_string(id) + " is an empty token");
    kinds_[id] = token.kind;
    if (token.kind != TokenKind::kNormal) {
      ++n_added;
      arena_.append(token.text);
    } else if (AppendAlphabetBytes(token.text, &arena_)) {
      normal.push_back(static_cast<TokenId>(id));
    } else {
      // Outside the byte alphabet: it can be decoded, but no text encodes to it.
      arena_.append(token.text);
    }
    longest_bytes_ = std::max(longest_bytes_, arena_.size() - begins_[id]);
  }
  begins_[n_rows] = static_cast<uint32_t>(arena_.size());

  // 3. The way back.
  normal_ids_.Reserve(normal.size());
  for (const TokenId id : normal) Insert(normal_ids_, id, source);
  added_ids_.Reserve(n_added);
  added_.reserve(n_added);
  size_t added_bytes = 0;
  for (size_t id = 0; id < n_rows; ++id) {
    if (kinds_[id] != TokenKind::kSpecial && kinds_[id] != TokenKind::kAdded) continue;
    VocabularyToken token = source.tokens[row_of[id]];
    token.text = bytes(token.id);
    if (token.text.size() > kMaxAddedTokenBytes) {
      fail("added token " + std::to_string(id) + " has " + std::to_string(token.text.size()) +
           " bytes, the limit is " + std::to_string(kMaxAddedTokenBytes));
    }
    added_bytes += token.text.size();
    if (added_bytes > kMaxAddedTextBytes) {
      fail("the added tokens up to " + std::to_string(id) + " have more than " +
           std::to_string(kMaxAddedTextBytes) + " bytes, which is the limit");
    }
    // Text is cut at them, and the pieces must be whole characters.
    if (ValidUtf8Prefix(token.text) != token.text.size()) {
      fail("added token " + std::to_string(id) + " ('" + Printable(token.text, 40) +
           "') is not UTF-8");
    }
    Insert(added_ids_, token.id, source);
    const TokenId twin = normal_ids_.slots[FindSlot(normal_ids_, token.text)];
    if (twin >= 0 && AlphabetSpelling(token.text) == token.text) {
      fail("added token '" + Printable(token.text) + "' has id " + std::to_string(id) +
           " but the vocabulary gives it " + std::to_string(twin));
    }
    added_.push_back(token);
  }
}

std::optional<TokenId> Vocabulary::Find(std::string_view key) const {
  const std::optional<TokenId> normal = FindNormal(key);
  return normal ? normal : FindAdded(key);
}

std::optional<TokenId> Vocabulary::FindNormal(std::string_view key) const {
  const TokenId id = normal_ids_.slots[FindSlot(normal_ids_, key)];
  return id >= 0 ? std::optional(id) : std::nullopt;
}

std::optional<TokenId> Vocabulary::FindAdded(std::string_view key) const {
  const TokenId id = added_ids_.slots[FindSlot(added_ids_, key)];
  return id >= 0 ? std::optional(id) : std::nullopt;
}

uint64_t Vocabulary::memory_bytes() const {
  return kinds_.capacity() + begins_.capacity() * sizeof(uint32_t) + arena_.capacity() +
         (normal_ids_.slots.capacity() + added_ids_.slots.capacity()) * sizeof(TokenId) +
         added_.capacity() * sizeof(VocabularyToken);
}

}  // namespace stoker
