#pragma once

// The token table: id to bytes and kind, bytes to id. Built once from a VocabularySource and owned
// by the Tokenizer. Immutable after building and thread-safe. It knows nothing of merges or text.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/keyed_hash.h"
#include "runtime/text/token_id.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

class Vocabulary {
 public:
  // Throws FormatError for duplicate ids or spellings, empty tokens, ids at or beyond vocab_size
  // (0: as many as there are), and added tokens that are not UTF-8 or beyond the limits of
  // vocabulary_source.h.
  Vocabulary(const VocabularySource& source, int64_t vocab_size);

  int64_t size() const { return static_cast<int64_t>(kinds_.size()); }
  TokenKind kind(TokenId id) const { return InRange(id) ? kinds_[id] : TokenKind::kUnused; }
  std::string_view bytes(TokenId id) const {
    if (!InRange(id)) return {};
    return std::string_view(arena_).substr(begins_[id], begins_[id + 1] - begins_[id]);
  }

  // The token of these bytes: of the BPE vocabulary if there is one, else an added one.
  std::optional<TokenId> Find(std::string_view bytes) const;
  std::optional<TokenId> FindNormal(std::string_view bytes) const;
  std::optional<TokenId> FindAdded(std::string_view bytes) const;

  // Of the longest token of any kind.
  size_t longest_bytes() const { return longest_bytes_; }

  // The hash of the tables here, for others that look up pieces of text.
  uint64_t Hash(std::string_view text) const { return hash_(text); }

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

  KeyedHash hash_;
  std::vector<TokenKind> kinds_;     // [V]
  std::vector<uint32_t> begins_;     // [V + 1] into arena_
  std::string arena_;
  size_t longest_bytes_ = 0;
  ByteMap normal_ids_;
  ByteMap added_ids_;
  std::vector<VocabularyToken> added_;  // texts borrow from arena_
};

}  // namespace stoker
