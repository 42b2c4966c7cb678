#pragma once

// Byte-pair merging of one piece of text (Sennrich et al., arXiv:1508.07909): start from bytes, and
// while some neighbouring pair has a merge rule, join the pair whose rule ranks best, the leftmost
// of equals. O(n log n) in the length of the piece, without recursion. Immutable after
// construction and thread-safe; the caller brings the scratch.

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/text/keyed_hash.h"
#include "runtime/text/vocabulary.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

class BytePairEncoder {
 public:
  // Working memory of one thread; grows to about 40 bytes per byte of the longest piece.
  struct Scratch {
    struct Symbol {
      TokenId id;
      uint32_t rank;  // of the pair (this, next); kNoRank when it has no rule
      int32_t previous, next;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;  // rank << 32 | position of the pair's left symbol
  };

  // vocabulary is borrowed. Throws FormatError when a byte has no token, a rule names unknown
  // tokens or appears twice.
  BytePairEncoder(const VocabularySource& source, const Vocabulary& vocabulary);

  // Appends the tokens of `piece`, which is any bytes below 2 GiB.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>* out) const;

  // The plain statement of the algorithm in O(n^2), for tests.
  std::vector<TokenId> EncodeByDefinition(std::string_view piece) const;

  uint64_t memory_bytes() const { return rules_.capacity() * sizeof(Rule); }

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  static constexpr uint64_t kNoPair = UINT64_MAX;

  struct Rule {
    uint64_t pair = kNoPair;  // left << 32 | right
    uint32_t rank = kNoRank;
    TokenId result = -1;
  };

  static uint64_t Pair(TokenId left, TokenId right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }
  size_t Slot(uint64_t pair) const;
  const Rule& Find(TokenId left, TokenId right) const { return rules_[Slot(Pair(left, right))]; }
  void EncodeShort(std::string_view piece, std::vector<TokenId>* out) const;
  void EncodeLong(std::string_view piece, Scratch& scratch, std::vector<TokenId>* out) const;

  KeyedHash hash_;
  std::array<TokenId, 256> byte_ids_;
  std::vector<Rule> rules_;  // open addressing, a power of two, at most half full
};

}  // namespace stoker
