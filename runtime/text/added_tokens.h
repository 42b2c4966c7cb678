#pragma once

// Finds added tokens (<end_of_sentence>, <think>) in a text, longest match first at each place, the
// way Hugging Face tokenizers do before any other splitting: first those that are not normalized,
// then, in what is left, those that are; one finder for each. Immutable and thread-safe after
// construction; borrows the vocabulary.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/text/token_id.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary.h"

namespace stoker {

class AddedTokenFinder {
 public:
  // Of the tokens whose `normalized` is this.
  AddedTokenFinder(const Vocabulary& vocabulary, bool normalized);

  struct Match {
    size_t begin = 0;
    size_t end = 0;
    TokenId id = -1;  // -1: none; begin == end == text.size()
  };

  // The first token at or after `from`. Special tokens that overlap a range of `plain` (ascending)
  // are skipped; as in Hugging Face's encode_special_tokens, what they cover is not searched for
  // shorter tokens. strip_left never reaches back before `from`.
  Match Next(std::string_view text, size_t from, std::span<const TextRange> plain) const;

  uint64_t memory_bytes() const { return nodes_.capacity() * sizeof(Node); }

 private:
  struct Node {
    int32_t first_child = -1;  // children of a node are a linked list, sorted by nothing
    int32_t sibling = -1;
    int32_t token = -1;  // index into vocabulary.added()
    uint8_t byte = 0;
  };

  int32_t Child(int32_t node, uint8_t byte) const;
  // Index of the longest token at `begin`, or -1.
  int32_t LongestAt(std::string_view text, size_t begin) const;

  const Vocabulary& vocabulary_;
  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;  // node of each first byte, -1: no token starts with it
};

}  // namespace stoker
