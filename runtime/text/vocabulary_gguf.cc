// Reads the tokenizer.ggml.* metadata of a GGUF file into a VocabularySource. The file names its
// splitting pattern instead of carrying it; names whose pattern Stoker does not have are refused.

#include <string>

#include "mmap/format_error.h"
#include "mmap/gguf_reader.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {
namespace {

// llama.cpp's token types.
enum GgufTokenType : int64_t {
  kGgufNormal = 1,
  kGgufUnknown = 2,
  kGgufControl = 3,
  kGgufUserDefined = 4,
  kGgufUnused = 5,
  kGgufByte = 6,
};

// The pattern of a tokenizer.ggml.pre name, or nullptr. llama.cpp gives M1 the name of its
// successor, whose vocabulary it shares; both split as o200k does.
const char* FindSplitPattern(std::string_view name) {
  if (name == "minimax-m2" || name == "gpt-4o") return kO200kSplitPattern;
  if (name == "gpt-2") return kGpt2SplitPattern;
  return nullptr;
}

// Refuses a list before it is read, which takes several times its bytes. One that is absent or no
// list is left to whoever reads it.
void RequireSize(const GgufMetadata& metadata, const char* key, uint64_t max_entries) {
  const GgufEntry* entry = metadata.Find(key);
  if (entry == nullptr) return;
  const auto fail = [&](uint64_t size, const char* unit, uint64_t limit) {
    throw FormatError(metadata.file(), key, "has " + std::to_string(size) + unit +
                                                ", the limit is " + std::to_string(limit));
  };
  if (entry->count > max_entries) fail(entry->count, " entries", max_entries);
  if (entry->data.size() > kMaxTokenizerFileBytes) {
    fail(entry->data.size(), " bytes", kMaxTokenizerFileBytes);
  }
}

}  // namespace

VocabularySource ReadGgufVocabulary(const GgufMetadata& metadata) {
  VocabularySource source;
  source.file = metadata.file();
  source.vocab_field = "tokenizer.ggml.tokens";
  source.merges_field = "tokenizer.ggml.merges";
  source.split_field = "tokenizer.ggml.pre";
  const auto fail = [&](std::string_view field, const std::string& reason) {
    throw FormatError(source.file, field, reason);
  };

  const std::string_view model = metadata.String("tokenizer.ggml.model");
  if (model != "gpt2") {
    fail("tokenizer.ggml.model", "'" + Printable(model, 40) + "' is not supported; only gpt2 is");
  }
  const std::string_view pre = metadata.FindString("tokenizer.ggml.pre").value_or("");
  const char* pattern = FindSplitPattern(pre);
  if (pattern == nullptr) {
    fail("tokenizer.ggml.pre", pre.empty() ? "is missing"
                                           : "'" + Printable(pre, 40) +
                                                 "' is not supported; minimax-m2, gpt-4o and gpt-2 "
                                                 "are");
  }
  source.stages.push_back({.pattern = pattern});

  RequireSize(metadata, "tokenizer.ggml.tokens", static_cast<uint64_t>(kMaxTokenId) + 1);
  const std::vector<std::string_view> tokens = metadata.Strings("tokenizer.ggml.tokens");
  const auto types = metadata.FindInts("tokenizer.ggml.token_type", tokens.size());
  source.tokens.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    VocabularyToken token{.text = tokens[i], .id = static_cast<TokenId>(i)};
    switch (types ? (*types)[i] : kGgufNormal) {
      case kGgufNormal:
      case kGgufByte:
        break;
      case kGgufUnknown:
      case kGgufControl:
        token.kind = TokenKind::kSpecial;
        break;
      case kGgufUserDefined:
        token.kind = TokenKind::kAdded;
        break;
      case kGgufUnused:
        token.kind = TokenKind::kUnused;
        break;
      default:
        fail("tokenizer.ggml.token_type[" + std::to_string(i) + "]",
             std::to_string((*types)[i]) + " is not a token type (1 to 6)");
    }
    source.tokens.push_back(token);
  }

  RequireSize(metadata, "tokenizer.ggml.merges", kMaxMerges);
  const std::vector<std::string_view> merges = metadata.Strings("tokenizer.ggml.merges");
  source.merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    // The first part may begin with the space character's spelling, never with a space itself.
    const size_t space = merges[i].find(' ', 1);
    if (space == std::string_view::npos) {
      fail("tokenizer.ggml.merges[" + std::to_string(i) + "]",
           "'" + Printable(merges[i], 40) + "' is not two parts with a space between");
    }
    source.merges.push_back({merges[i].substr(0, space), merges[i].substr(space + 1)});
  }

  const auto n_tokens = static_cast<int64_t>(tokens.size());
  // End of text, and where a model distinguishes them, end of turn and of message.
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = metadata.FindInt(key, 0, n_tokens - 1)) {
      source.end_tokens.push_back(static_cast<TokenId>(*id));
    }
  }
  RequireSize(metadata, "tokenizer.ggml.suppress_tokens", tokens.size());
  if (const auto ids = metadata.FindInts("tokenizer.ggml.suppress_tokens")) {
    for (const int64_t id : *ids) {
      if (id < 0 || id >= n_tokens) {
        fail("tokenizer.ggml.suppress_tokens", std::to_string(id) + " is not a token id (0 to " +
                                                   std::to_string(n_tokens - 1) + ")");
      }
      source.suppressed.push_back(static_cast<TokenId>(id));
    }
  }
  return source;
}

}  // namespace stoker
