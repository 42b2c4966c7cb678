#include "runtime/text/added_tokens.h"

#include <algorithm>

#include "runtime/text/utf8.h"

namespace stoker {
namespace {

// Where the run of white space that ends at `end` begins, not before `floor`.
size_t SpaceBefore(std::string_view text, size_t floor, size_t end) {
  while (end > floor) {
    size_t begin = end - 1;
    while (begin > floor && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
    size_t bytes = 0;
    if (!IsUnicodeSpace(DecodeUtf8(text.data() + begin, &bytes))) break;
    end = begin;
  }
  return end;
}

size_t SpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    size_t bytes = 0;
    if (!IsUnicodeSpace(DecodeUtf8(text.data() + begin, &bytes))) break;
    begin += bytes;
  }
  return begin;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const Vocabulary& vocabulary, bool normalized)
    : vocabulary_(vocabulary) {
  roots_.fill(-1);
  const auto added = vocabulary.added();
  size_t n_bytes = 0;  // A node for each at most, so that the list need not grow.
  for (const VocabularyToken& token : added) {
    if (token.normalized == normalized) n_bytes += token.text.size();
  }
  nodes_.reserve(n_bytes);
  const auto new_node = [this](uint8_t byte, int32_t sibling) {
    nodes_.push_back({.sibling = sibling, .byte = byte});
    return static_cast<int32_t>(nodes_.size()) - 1;
  };
  for (size_t index = 0; index < added.size(); ++index) {
    if (added[index].normalized != normalized) continue;
    const std::string_view text = added[index].text;
    const auto first = static_cast<uint8_t>(text[0]);
    if (roots_[first] < 0) roots_[first] = new_node(first, -1);
    int32_t node = roots_[first];
    for (const char c : text.substr(1)) {
      const auto byte = static_cast<uint8_t>(c);
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = new_node(byte, nodes_[node].first_child);
        nodes_[node].first_child = child;
      }
      node = child;
    }
    nodes_[node].token = static_cast<int32_t>(index);
  }
}

int32_t AddedTokenFinder::Child(int32_t node, uint8_t byte) const {
  int32_t child = nodes_[node].first_child;
  while (child >= 0 && nodes_[child].byte != byte) child = nodes_[child].sibling;
  return child;
}

int32_t AddedTokenFinder::LongestAt(std::string_view text, size_t begin) const {
  int32_t longest = -1;
  int32_t node = roots_[static_cast<uint8_t>(text[begin])];
  for (size_t i = begin + 1; node >= 0; ++i) {
    if (nodes_[node].token >= 0) longest = nodes_[node].token;
    if (i == text.size()) break;
    node = Child(node, static_cast<uint8_t>(text[i]));
  }
  return longest;
}

AddedTokenFinder::Match AddedTokenFinder::Next(std::string_view text, size_t from,
                                               std::span<const TextRange> plain) const {
  for (size_t i = nodes_.empty() ? text.size() : from; i < text.size();) {
    if (roots_[static_cast<uint8_t>(text[i])] < 0) {
      ++i;
      continue;
    }
    const int32_t index = LongestAt(text, i);
    if (index < 0) {
      ++i;
      continue;
    }
    const VocabularyToken& token = vocabulary_.added()[index];
    const size_t end = i + token.text.size();
    if (token.kind == TokenKind::kSpecial) {
      // The first range that ends after the match begins is the only one that can overlap it first.
      const auto range = std::upper_bound(
          plain.begin(), plain.end(), i,
          [](size_t position, const TextRange& r) { return position < r.end; });
      if (range != plain.end() && range->begin < end) {
        i = end;
        continue;
      }
    }
    return {token.strip_left ? SpaceBefore(text, from, i) : i,
            token.strip_right ? SpaceAfter(text, end) : end, token.id};
  }
  return {text.size(), text.size(), -1};
}

}  // namespace stoker
