#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "mmap/format_error.h"
#include "mmap/model_directory.h"
#include "numa/bytes.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocabulary.h"
#include "runtime/text/vocabulary_source.h"
#include "runtime/text/word_cache.h"

namespace stoker {
namespace {

// The end token of every MiniMax model, for files that name none.
constexpr std::string_view kDefaultEndToken = "<end_of_sentence>";

// Working memory of one Encode call.
struct EncodeScratch {
  PreTokenizer::Scratch splitting;
  BytePairEncoder::Scratch merging;
  std::vector<TextRange> pieces;
  WordCache words;
};

// Lends scratch to concurrent callers and keeps a few for later ones.
class ScratchPool {
 public:
  std::unique_ptr<EncodeScratch> Take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<EncodeScratch> scratch = std::move(free_.back());
        free_.pop_back();
        return scratch;
      }
    }
    return std::make_unique<EncodeScratch>();
  }

  void Return(std::unique_ptr<EncodeScratch> scratch) {
    constexpr size_t kKept = 8;
    const std::lock_guard lock(mutex_);
    if (free_.size() < kKept) free_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeScratch>> free_;
};

}  // namespace

class Tokenizer::Impl {
 public:
  Impl(const VocabularySource& source, int64_t vocab_size)
      : vocabulary_(source, vocab_size),
        merger_(source, vocabulary_),
        added_(vocabulary_, false),
        normalized_(vocabulary_, true),
        splitter_(source),
        whole_words_first_(source.whole_words_first) {
    const int64_t n = vocabulary_.size();
    std::vector<bool> never(static_cast<size_t>(n), false);
    for (TokenId id = 0; id < n; ++id) never[id] = vocabulary_.kind(id) == TokenKind::kUnused;
    for (const TokenId id : source.suppressed) never[id] = true;
    for (TokenId id = 0; id < n; ++id) {
      if (never[id]) never_sampled_.push_back(id);
    }
    end_tokens_ = source.end_tokens;
    if (end_tokens_.empty()) {
      if (const auto id = vocabulary_.FindAdded(kDefaultEndToken)) end_tokens_.push_back(*id);
    }
    std::sort(end_tokens_.begin(), end_tokens_.end());
    end_tokens_.erase(std::unique(end_tokens_.begin(), end_tokens_.end()), end_tokens_.end());
    drops_text_ = std::any_of(source.stages.begin(), source.stages.end(),
                              [](const SplitStage& stage) { return stage.drop_gaps; }) ||
                  std::any_of(vocabulary_.added().begin(), vocabulary_.added().end(),
                              [](const VocabularyToken& token) {
                                return token.strip_left || token.strip_right;
                              });
  }

  std::vector<TokenId> Encode(std::string_view text, std::span<const TextRange> plain) const {
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 4 + 16);
    std::unique_ptr<EncodeScratch> scratch = pool_.Take();
    for (size_t from = 0; from < text.size();) {
      const AddedTokenFinder::Match match = added_.Next(text, from, plain);
      EncodeStretch(text.substr(0, match.begin), from, plain, *scratch, &ids);
      if (match.id >= 0) ids.push_back(match.id);
      from = match.end;
    }
    pool_.Return(std::move(scratch));
    return ids;
  }

  uint64_t MaxTextBytes(int64_t n_tokens) const {
    if (drops_text_) return UINT64_MAX;
    return CheckedMul(static_cast<uint64_t>(n_tokens), vocabulary_.longest_bytes())
        .value_or(UINT64_MAX);
  }

  const Vocabulary& vocabulary() const { return vocabulary_; }
  std::span<const TokenId> never_sampled() const { return never_sampled_; }
  std::span<const TokenId> end_tokens() const { return end_tokens_; }
  uint64_t memory_bytes() const {
    return vocabulary_.memory_bytes() + merger_.memory_bytes() + added_.memory_bytes() +
           normalized_.memory_bytes() + never_sampled_.capacity() * sizeof(TokenId);
  }

 private:
  // Text from `from` on with normalized added tokens at most.
  void EncodeStretch(std::string_view text, size_t from, std::span<const TextRange> plain,
                     EncodeScratch& scratch, std::vector<TokenId>* ids) const {
    while (from < text.size()) {
      const AddedTokenFinder::Match match = normalized_.Next(text, from, plain);
      EncodePlain(text.substr(from, match.begin - from), scratch, ids);
      if (match.id >= 0) ids->push_back(match.id);
      from = match.end;
    }
  }

  // Text without added tokens in it.
  void EncodePlain(std::string_view text, EncodeScratch& scratch,
                   std::vector<TokenId>* ids) const {
    for (size_t from = 0; from < text.size();) {
      from = splitter_.Split(text, from, scratch.splitting, &scratch.pieces);
      for (const TextRange& range : scratch.pieces) {
        EncodePiece(text.substr(range.begin, range.end - range.begin), scratch, ids);
      }
    }
  }

  void EncodePiece(std::string_view piece, EncodeScratch& scratch,
                   std::vector<TokenId>* ids) const {
    if (piece.size() > WordCache::kMaxWordBytes) {
      MergePiece(piece, scratch, ids);
      return;
    }
    const uint64_t hash = vocabulary_.Hash(piece);
    const std::span<const TokenId> known = scratch.words.Find(piece, hash);
    if (!known.empty()) {
      ids->insert(ids->end(), known.begin(), known.end());
      return;
    }
    const size_t first = ids->size();
    MergePiece(piece, scratch, ids);
    scratch.words.Store(piece, hash, std::span<const TokenId>(*ids).subspan(first));
  }

  void MergePiece(std::string_view piece, EncodeScratch& scratch,
                  std::vector<TokenId>* ids) const {
    if (whole_words_first_) {
      // An added token that is still in the text is plain there, whatever it is called.
      if (const auto id = vocabulary_.FindNormal(piece)) {
        ids->push_back(*id);
        return;
      }
    }
    merger_.Encode(piece, scratch.merging, ids);
  }

  Vocabulary vocabulary_;
  BytePairEncoder merger_;
  AddedTokenFinder added_;
  AddedTokenFinder normalized_;
  PreTokenizer splitter_;
  bool whole_words_first_;
  bool drops_text_ = false;  // white space beside added tokens, gaps between matches
  std::vector<TokenId> never_sampled_;
  std::vector<TokenId> end_tokens_;
  mutable ScratchPool pool_;
};

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

std::unique_ptr<const Tokenizer> Tokenizer::FromSource(const VocabularySource& source,
                                                       int64_t vocab_size) {
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  tokenizer->impl_ = std::make_unique<Impl>(source, vocab_size);
  return tokenizer;
}

std::unique_ptr<const Tokenizer> Tokenizer::FromGguf(const GgufMetadata& metadata,
                                                     int64_t vocab_size) {
  return FromSource(ReadGgufVocabulary(metadata), vocab_size);
}

std::unique_ptr<const Tokenizer> Tokenizer::OpenDirectory(const std::filesystem::path& directory,
                                                          int64_t vocab_size) {
  constexpr std::string_view kName = "tokenizer.json";
  constexpr std::string_view kConfigName = "tokenizer_config.json";
  if (!HasFile(directory, kName)) {
    throw FormatError((directory / kName).native(), "file",
                      "is missing; download it beside the weights, Stoker needs it for text");
  }
  const auto map = [&directory](std::string_view name) {
    return MapTextFile(directory, name, kMaxTokenizerFileBytes);
  };
  VocabularySource source = ParseTokenizerJson(TextOf(map(kName)), (directory / kName).native());
  if (HasFile(directory, kConfigName)) {
    ApplyTokenizerConfig(TextOf(map(kConfigName)), (directory / kConfigName).native(), source);
  }
  return FromSource(source, vocab_size);
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, SpecialTokens special) const {
  if (ValidUtf8Prefix(text) != text.size()) {
    std::string repaired;
    AppendLossyUtf8(text, &repaired);
    return Encode(repaired, special);
  }
  const TextRange whole{0, text.size()};
  return impl_->Encode(text, special == SpecialTokens::kPlain
                                 ? std::span<const TextRange>(&whole, 1)
                                 : std::span<const TextRange>());
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text,
                                       std::span<const TextRange> plain_ranges) const {
  if (ValidUtf8Prefix(text) == text.size()) return impl_->Encode(text, plain_ranges);
  // Repairing changes lengths: carry the ranges over piece by piece.
  std::string repaired;
  std::vector<TextRange> ranges;
  size_t from = 0;
  for (const TextRange& range : plain_ranges) {
    AppendLossyUtf8(text.substr(from, range.begin - from), &repaired);
    const size_t begin = repaired.size();
    AppendLossyUtf8(text.substr(range.begin, range.end - range.begin), &repaired);
    ranges.push_back({begin, repaired.size()});
    from = range.end;
  }
  AppendLossyUtf8(text.substr(from), &repaired);
  return impl_->Encode(repaired, ranges);
}

std::string_view Tokenizer::Bytes(TokenId id) const { return impl_->vocabulary().bytes(id); }

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool hide_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (!hide_special || !IsSpecial(id)) bytes += Bytes(id);
  }
  if (ValidUtf8Prefix(bytes) == bytes.size()) return bytes;
  std::string text;
  AppendLossyUtf8(bytes, &text);
  return text;
}

int64_t Tokenizer::vocab_size() const { return impl_->vocabulary().size(); }

bool Tokenizer::IsKnown(TokenId id) const {
  return impl_->vocabulary().kind(id) != TokenKind::kUnused;
}

bool Tokenizer::IsSpecial(TokenId id) const {
  return impl_->vocabulary().kind(id) == TokenKind::kSpecial;
}

std::optional<TokenId> Tokenizer::Find(std::string_view bytes) const {
  const auto added = impl_->vocabulary().FindAdded(bytes);
  return added ? added : impl_->vocabulary().Find(bytes);
}

uint64_t Tokenizer::MaxTextBytes(int64_t n_tokens) const { return impl_->MaxTextBytes(n_tokens); }

std::span<const TokenId> Tokenizer::never_sampled() const { return impl_->never_sampled(); }

std::span<const TokenId> Tokenizer::end_tokens() const { return impl_->end_tokens(); }

bool Tokenizer::IsEnd(TokenId id) const {
  const auto ids = end_tokens();
  return std::binary_search(ids.begin(), ids.end(), id);
}

uint64_t Tokenizer::memory_bytes() const { return impl_->memory_bytes(); }

}  // namespace stoker
