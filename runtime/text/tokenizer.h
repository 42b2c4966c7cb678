#pragma once

// Text to token ids and back: byte-level BPE (Sennrich et al., arXiv:1508.07909, over bytes as in
// GPT-2) with added tokens, as tokenizer.json or GGUF metadata describe it. The Engine owns one per
// model. Immutable after construction and thread-safe: concurrent calls borrow separate scratch
// space. It knows no chat format (chat_template.h) and no streaming (stream_decoder.h).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/token_id.h"

namespace stoker {

class GgufMetadata;
struct VocabularySource;

// What becomes of the names of special tokens (<end_of_sentence> and its like) found in a text.
enum class SpecialTokens : uint8_t {
  kParse,  // they become the token; for templates and raw prompts
  kPlain,  // they are ordinary text; for what users and tools wrote
};

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

class Tokenizer {
 public:
  // Reads DIR/tokenizer.json (required) and tokenizer_config.json (optional).
  // vocab_size: rows of the embedding; ids at or beyond it are refused. 0: as many as there are.
  // Throws FormatError (mmap/format_error.h) naming file, field and reason, std::system_error for
  // a file that cannot be read or a link to nothing.
  static std::unique_ptr<const Tokenizer> OpenDirectory(const std::filesystem::path& directory,
                                                        int64_t vocab_size);

  // Reads the tokenizer.ggml.* keys; copies what it keeps. Throws FormatError.
  static std::unique_ptr<const Tokenizer> FromGguf(const GgufMetadata& metadata,
                                                   int64_t vocab_size);

  // What the two above do in the end. Throws FormatError.
  static std::unique_ptr<const Tokenizer> FromSource(const VocabularySource& source,
                                                     int64_t vocab_size);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Encodes text. Bytes that are not UTF-8 are taken as U+FFFD, one per maximal ill-formed
  // sequence (Unicode 3.9, the rule of Python's and Rust's lossy decoding). Adds nothing: no
  // beginning-of-text token. Added tokens that are not special (<think>) are found either way.
  // Throws std::runtime_error when the model's own splitting pattern exceeds its step limit.
  std::vector<TokenId> Encode(std::string_view text, SpecialTokens special) const;

  // The same with kParse, but special tokens that overlap one of `plain_ranges` (ascending,
  // disjoint, whole characters) are ordinary text there. Splitting runs over the whole text, so
  // without special names inside the ranges the ids are those of one Encode call.
  std::vector<TokenId> Encode(std::string_view text, std::span<const TextRange> plain_ranges) const;

  // The most bytes a text can have that encodes to n_tokens: a longer one has more, which is known
  // without encoding it. UINT64_MAX when the model's files let some of a text go without tokens.
  uint64_t MaxTextBytes(int64_t n_tokens) const;

  // The bytes a token stands for, not necessarily whole UTF-8 characters; empty for unknown ids.
  // Valid as long as the tokenizer.
  std::string_view Bytes(TokenId id) const;

  // The tokens' bytes joined, ill-formed UTF-8 replaced by U+FFFD. hide_special leaves out special
  // tokens.
  std::string Decode(std::span<const TokenId> ids, bool hide_special = false) const;

  // Rows of the embedding, at least the largest known id + 1.
  int64_t vocab_size() const;
  // False for ids that exist in the embedding only ([PADn] in GGUF files) and outside [0, V).
  bool IsKnown(TokenId id) const;
  // Control tokens such as <end_of_sentence>; not <think>, which is text.
  bool IsSpecial(TokenId id) const;
  // The token spelled exactly like this, added tokens included.
  std::optional<TokenId> Find(std::string_view bytes) const;

  // Ascending ids that must never be sampled: unknown ones and the file's suppress list.
  std::span<const TokenId> never_sampled() const;

  // Ids that end a generation, never empty unless the file names none and has no
  // <end_of_sentence>.
  std::span<const TokenId> end_tokens() const;
  bool IsEnd(TokenId id) const;

  // Bytes of memory held, scratch of concurrent calls excluded.
  uint64_t memory_bytes() const;

 private:
  Tokenizer();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stoker
