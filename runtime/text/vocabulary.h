#pragma once

// The token table: id to bytes and kind, bytes to id. Built once from a VocabularySource and owned
// by the Tokenizer. Immutable after building and thread-safe. It knows nothing of merges or text.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/token_id.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

class Vocabulary {
 public:
  // Throws FormatError for duplicate ids or spellings, empty tokens and ids at or beyond
  // vocab_size (0: as many as there are).
  Vocabulary(const VocabularySource& source, int64_t vocab_size);

  int64_t size() const { return static_cast<int64_t>(kinds_.size()); }
  TokenKind kind(TokenId id) const { return InRange(id) ? kinds_[id] : TokenKind::kUnused; }
  std::string_view bytes(TokenId id) const {
    if (!InRange(id)) return {};
    return std::string_view(arena_).substr(begins_[id], begins_[id + 1] - begins_[id]);
  }

  // The token of these bytes: of the BPE vocabulary if there is one, else an added one.
  std::optional<TokenId> Find(std::string_view bytes) const;
  std::optional<TokenId> FindAdded(std::string_view bytes) const;

  // Added tokens of both kinds.
  std::span<const VocabularyToken> added() const { return added_; }

  uint64_t memory_bytes() const;

 private:
  // Open addressing over ids whose bytes are the keys; a power of two of slots, -1 for empty.
  struct ByteMap {
    std::vector<TokenId> slots;
    void Reserve(size_t n);
  };

  bool InRange(TokenId id) const { return id >= 0 && id < static_cast<TokenId>(kinds_.size()); }
  // The slot that holds these bytes or, empty, would take them.
  size_t FindSlot(const ByteMap& map, std::string_view bytes) const;
  void Insert(ByteMap& map, TokenId id, const VocabularySource& source);

  std::vector<TokenKind> kinds_;     // [V]
  std::vector<uint32_t> begins_;     // [V + 1] into arena_
  std::string arena_;
  ByteMap normal_ids_;
  ByteMap added_ids_;
  std::vector<VocabularyToken> added_;  // texts borrow from arena_
};

// A hash of short strings, fixed for all machines.
uint64_t HashBytes(std::string_view bytes);

}  // namespace stoker
