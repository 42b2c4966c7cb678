#include "runtime/text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "mmap/format_error.h"
#include "runtime/text/byte_alphabet.h"

namespace stoker {
namespace {

// Up to this many bytes, looking at every pair again after each merge beats keeping a heap.
constexpr size_t kShortPieceBytes = 32;

}  // namespace

size_t BytePairEncoder::Slot(uint64_t pair) const {
  const size_t mask = rules_.size() - 1;
  size_t slot = hash_(pair) & mask;
  while (rules_[slot].pair != pair && rules_[slot].pair != kNoPair) slot = (slot + 1) & mask;
  return slot;
}

BytePairEncoder::BytePairEncoder(const VocabularySource& source, const Vocabulary& vocabulary) {
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const std::optional<TokenId> id = vocabulary.Find(std::string_view(&byte, 1));
    if (!id) {
      throw FormatError(source.file, source.vocab_field,
                        "no token for byte " + std::to_string(b) + " ('" +
                            Printable(AlphabetSpelling(std::string_view(&byte, 1))) +
                            "'); only byte-level vocabularies are supported");
    }
    byte_ids_[b] = *id;
  }
  rules_.resize(std::bit_ceil(std::max<size_t>(16, source.merges.size() * 2)));
  std::string bytes;
  for (size_t rank = 0; rank < source.merges.size(); ++rank) {
    const VocabularyMerge& merge = source.merges[rank];
    const auto fail = [&](const std::string& reason) {
      throw FormatError(source.file,
                        source.merges_field + "[" + std::to_string(rank) + "]", reason);
    };
    bytes.clear();
    const bool left_spelled = AppendAlphabetBytes(merge.left, &bytes);
    const size_t left_bytes = bytes.size();
    const bool spelled = AppendAlphabetBytes(merge.right, &bytes) && left_spelled;
    const std::string_view whole = bytes;
    const auto id_of = [&](std::string_view part) {
      const std::optional<TokenId> id = spelled ? vocabulary.Find(part) : std::nullopt;
      if (!id || part.empty()) {
        fail("'" + Printable(merge.left, 40) + "' + '" + Printable(merge.right, 40) +
             "' names a token that is not in the vocabulary");
      }
      return *id;
    };
    const TokenId left = id_of(whole.substr(0, left_bytes));
    const TokenId right = id_of(whole.substr(left_bytes));
    const TokenId result = id_of(whole);
    Rule& rule = rules_[Slot(Pair(left, right))];
    if (rule.pair != kNoPair) {
      fail("repeats merge " + std::to_string(rule.rank) + " ('" + Printable(merge.left) +
           "', '" + Printable(merge.right) + "')");
    }
    rule = {Pair(left, right), static_cast<uint32_t>(rank), result};
  }
}

void BytePairEncoder::Encode(std::string_view piece, Scratch& scratch,
                             std::vector<TokenId>* out) const {
  if (piece.size() <= kShortPieceBytes) {
    EncodeShort(piece, out);
  } else {
    EncodeLong(piece, scratch, out);
  }
}

void BytePairEncoder::EncodeShort(std::string_view piece, std::vector<TokenId>* out) const {
  std::array<TokenId, kShortPieceBytes + 1> ids;
  // Ranks and results of the pairs (i, i + 1); the last entry stays without a rule.
  std::array<uint32_t, kShortPieceBytes + 1> ranks;
  std::array<TokenId, kShortPieceBytes + 1> results;
  size_t n = piece.size();
  for (size_t i = 0; i < n; ++i) ids[i] = byte_ids_[static_cast<uint8_t>(piece[i])];
  const auto look_up = [&](size_t i) {
    if (i + 1 >= n) {
      ranks[i] = kNoRank;
      return;
    }
    const Rule& rule = Find(ids[i], ids[i + 1]);
    ranks[i] = rule.rank;
    results[i] = rule.result;
  };
  for (size_t i = 0; i < n; ++i) look_up(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    ids[best] = results[best];
    for (size_t i = best + 1; i + 1 < n; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    --n;
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  out->insert(out->end(), ids.begin(), ids.begin() + n);
}

void BytePairEncoder::EncodeLong(std::string_view piece, Scratch& scratch,
                                 std::vector<TokenId>* out) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<int32_t>(piece.size());
  symbols.resize(piece.size());
  heap.clear();
  for (int32_t i = 0; i < n; ++i) {
    const TokenId id = byte_ids_[static_cast<uint8_t>(piece[i])];
    symbols[i] = {id, kNoRank, i - 1, i + 1 < n ? i + 1 : -1};
  }
  // The smallest entry is the best rank and, among equal ranks, the leftmost position.
  const auto look_up = [&](int32_t i) {
    Scratch::Symbol& symbol = symbols[i];
    symbol.rank = symbol.next < 0 ? kNoRank : Find(symbol.id, symbols[symbol.next].id).rank;
    return symbol.rank != kNoRank;
  };
  const auto entry = [&](int32_t i) {
    return static_cast<uint64_t>(symbols[i].rank) << 32 | static_cast<uint32_t>(i);
  };
  for (int32_t i = 0; i < n; ++i) {
    if (look_up(i)) heap.push_back(entry(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](int32_t i) {
    if (!look_up(i)) return;
    heap.push_back(entry(i));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto i = static_cast<int32_t>(heap.back() & UINT32_MAX);
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    // Entries outlive their pair: a symbol that was joined to its left, or whose pair changed,
    // has another rank by now. A rank belongs to one pair only, so an equal one is current.
    if (symbols[i].rank != rank) continue;
    Scratch::Symbol& left = symbols[i];
    Scratch::Symbol& right = symbols[left.next];
    left.id = Find(left.id, right.id).result;
    right.rank = kNoRank;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = i;
    push(i);
    if (left.previous >= 0) push(left.previous);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) out->push_back(symbols[i].id);
  // One huge piece must not keep its memory for the tokenizer's life.
  constexpr size_t kKeptSymbols = 1 << 16;
  if (symbols.capacity() > kKeptSymbols) {
    std::vector<Scratch::Symbol>().swap(symbols);
    std::vector<uint64_t>().swap(heap);
  }
}

std::vector<TokenId> BytePairEncoder::EncodeByDefinition(std::string_view piece) const {
  std::vector<TokenId> ids;
  for (const char byte : piece) ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  while (true) {
    size_t best = 0;
    Rule rule;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const Rule& candidate = Find(ids[i], ids[i + 1]);
      if (candidate.rank < rule.rank) {
        rule = candidate;
        best = i;
      }
    }
    if (rule.rank == kNoRank) return ids;
    ids[best] = rule.result;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

}  // namespace stoker
