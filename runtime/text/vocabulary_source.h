#pragma once

// What a model file says about its tokenizer, before any of it is trusted to fit together: a plain
// value that both readers (tokenizer.json, GGUF metadata) fill and from which
// Tokenizer::FromSource builds. Views borrow from `storage` or, for GGUF, from the mapped file.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/token_id.h"

namespace stoker {

class GgufMetadata;

enum class TokenKind : uint8_t {
  kNormal,   // of the BPE vocabulary; spelled in GPT-2's byte alphabet
  kSpecial,  // added, control: found in text only where special tokens are parsed
  kAdded,    // added, ordinary text such as <think>: found always
  kUnused,   // a row of the embedding without a token
};

struct VocabularyToken {
  std::string_view text;
  TokenId id = 0;
  TokenKind kind = TokenKind::kNormal;
  bool strip_left = false;   // an added token that swallows the white space before it
  bool strip_right = false;  // and after it
  // An added token that is looked for in what the ones without this have left of a text.
  bool normalized = false;
};

struct VocabularyMerge {
  std::string_view left, right;  // byte alphabet
};

// One step of the pre-tokenizer: cut each piece at the matches of a pattern.
struct SplitStage {
  std::string pattern;
  bool drop_gaps = false;  // false: text between matches makes pieces too
};

struct VocabularySource {
  std::string file;          // names the source in errors
  std::string vocab_field;   // "model.vocab" or "tokenizer.ggml.tokens"
  std::string merges_field;
  std::string split_field;
  // Each id at most once. An added token that is also in the vocabulary appears once, as added.
  std::vector<VocabularyToken> tokens;
  std::vector<VocabularyMerge> merges;  // best first
  std::vector<SplitStage> stages;       // empty: a text is one piece
  bool whole_words_first = false;       // ignore_merges: a piece that is a token is that token
  std::vector<TokenId> end_tokens;
  std::vector<TokenId> suppressed;
  std::shared_ptr<const void> storage;
};

// The largest id any file may use. Twice the largest vocabulary in the field, and small enough that
// tables indexed by id stay below the memory bound for hostile files.
inline constexpr TokenId kMaxTokenId = (1 << 19) - 1;

// The most merges: four times the most in the field.
inline constexpr size_t kMaxMerges = 1 << 20;

// Longest spelling of an added token in bytes. Searching costs up to this many steps per byte.
inline constexpr size_t kMaxAddedTokenBytes = 256;

// Spellings of all added tokens together, a few KiB in the field. The tree that finds them takes
// sixteen times as much.
inline constexpr size_t kMaxAddedTextBytes = 1 << 20;

// GPT-2's splitting pattern, which ByteLevel with use_regex means, and the o200k family's.
extern const char kGpt2SplitPattern[];
extern const char kO200kSplitPattern[];

// Limit of the text files beside a model, and of each list of strings in a GGUF file; M1's
// tokenizer.json is near 10 MiB.
inline constexpr uint64_t kMaxTokenizerFileBytes = 128ull << 20;

// Parses tokenizer.json text. `file` names it in errors. Throws FormatError.
VocabularySource ParseTokenizerJson(std::string_view json, std::string file);

// Adds the end token that tokenizer_config.json names, if any, to a source. Throws FormatError.
void ApplyTokenizerConfig(std::string_view json, std::string file, VocabularySource& source);

// Reads the tokenizer.ggml.* keys; the source borrows from the metadata's file. Throws FormatError.
VocabularySource ReadGgufVocabulary(const GgufMetadata& metadata);

}  // namespace stoker
