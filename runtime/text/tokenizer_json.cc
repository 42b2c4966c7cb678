// Reads Hugging Face's tokenizer.json into a VocabularySource. What changes the meaning of text and
// is not implemented (normalizers, other models than byte-level BPE) is refused by name.

#include <unordered_map>

#include "mmap/format_error.h"
#include "runtime/text/tokenizer_json_reader.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {
namespace {

namespace od = simdjson::ondemand;

std::string Indexed(std::string_view field, size_t index) {
  return std::string(field) + "[" + std::to_string(index) + "]";
}

// Members that may be absent or null, and must not be set to anything that changes the meaning.
void RequireUnset(const TokenizerFileReader& reader, od::value value, const std::string& field) {
  if (reader.IsNull(value, field)) return;
  const od::json_type type = reader.Get(value.type(), field, "a JSON value");
  if (type == od::json_type::string && reader.String(value, field).empty()) return;
  reader.Fail(field, "is set, which is not supported");
}

class TokenizerJsonReader {
 public:
  TokenizerJsonReader(std::string file, VocabularySource& source)
      : reader_(std::move(file)), source_(source) {}

  void Read(od::document& document) {
    bool has_model = false;
    bool has_pre_tokenizer = false;
    od::object root = reader_.Get(document.get_object(), "root", "an object");
    reader_.Members(root, "", [&](std::string_view key, od::value value) {
      if (key == "model") {
        ReadModel(value);
        has_model = true;
      } else if (key == "added_tokens") {
        ReadAddedTokens(value);
      } else if (key == "pre_tokenizer") {
        ReadPreTokenizer(value, "pre_tokenizer", 0);
        has_pre_tokenizer = true;
      } else if (key == "normalizer") {
        RequireUnset(reader_, value, "normalizer");
      } else if (key == "decoder") {
        ReadDecoder(value);
      }
      // version, truncation, padding and post_processor do not change how Stoker encodes: it adds
      // no tokens of its own and never cuts a text.
    });
    reader_.RequireEnd(document);
    if (!has_model) reader_.Fail("model", "is missing");
    if (!has_pre_tokenizer || !byte_level_) {
      reader_.Fail("pre_tokenizer", "has no ByteLevel step; only byte-level BPE is supported");
    }
    JoinAddedTokens();
  }

 private:
  void ReadModel(od::value value) {
    bool has_vocab = false;
    bool has_merges = false;
    od::object model = reader_.Get(value.get_object(), "model", "an object");
    reader_.Members(model, "model", [&](std::string_view key, od::value member) {
      const std::string field = TokenizerFileReader::Join("model", key);
      if (key == "type") {
        const std::string_view type = reader_.String(member, field);
        if (type != "BPE") reader_.Fail(field, "'" + Printable(type) + "' is not BPE");
      } else if (key == "vocab") {
        ReadVocab(member);
        has_vocab = true;
      } else if (key == "merges") {
        ReadMerges(member);
        has_merges = true;
      } else if (key == "ignore_merges") {
        source_.whole_words_first = reader_.Bool(member, field);
      } else if (key == "dropout" || key == "continuing_subword_prefix" ||
                 key == "end_of_word_suffix") {
        RequireUnset(reader_, member, field);
      }
      // unk_token, fuse_unk and byte_fallback have no effect: every byte has a token.
    });
    if (!has_vocab) reader_.Fail("model.vocab", "is missing");
    if (!has_merges) reader_.Fail("model.merges", "is missing");
  }

  void ReadVocab(od::value value) {
    od::object vocab = reader_.Get(value.get_object(), "model.vocab", "an object");
    for (auto member : vocab) {
      od::field entry = reader_.Get(std::move(member), "model.vocab", "an object");
      const std::string_view text =
          reader_.Get(entry.unescaped_key(), "model.vocab", "a string");
      if (source_.tokens.size() > kMaxTokenId) reader_.Fail("model.vocab", "has too many entries");
      source_.tokens.push_back({.text = text, .id = IdOf(entry.value(), text)});
    }
  }

  // The reader's Id, but the field's name is only spelled out for a failure: 200,000 times is much.
  TokenId IdOf(od::value value, std::string_view text) const {
    int64_t id = -1;
    if (value.get_int64().get(id) != simdjson::SUCCESS || id < 0 || id > kMaxTokenId) {
      const std::string field = "model.vocab['" + Printable(text, 40) + "']";
      reader_.Id(value, field);
      reader_.Fail(field, "is not a token id");
    }
    return static_cast<TokenId>(id);
  }

  void ReadMerges(od::value value) {
    od::array merges = reader_.Get(value.get_array(), "model.merges", "an array");
    reader_.Elements(merges, "model.merges", [&](size_t index, od::value merge) {
      if (index == kMaxMerges) reader_.Fail("model.merges", "has too many entries");
      // "a b" until 2024, then ["a", "b"], which allows spaces inside.
      if (od::json_type type; merge.type().get(type) == simdjson::SUCCESS &&
                              type == od::json_type::array) {
        std::string_view parts[2];
        size_t n = 0;
        od::array pair = reader_.Get(merge.get_array(), "model.merges", "an array");
        reader_.Elements(pair, "model.merges", [&](size_t, od::value part) {
          if (n == 2) reader_.Fail(Indexed("model.merges", index), "has more than two parts");
          std::string_view text;
          if (part.get_string().get(text) != simdjson::SUCCESS) {
            reader_.Fail(Indexed("model.merges", index), "has a part that is not a string");
          }
          parts[n++] = text;
        });
        if (n != 2) reader_.Fail(Indexed("model.merges", index), "has fewer than two parts");
        source_.merges.push_back({parts[0], parts[1]});
        return;
      }
      std::string_view text;
      if (merge.get_string().get(text) != simdjson::SUCCESS) {
        reader_.Fail(Indexed("model.merges", index), "is neither a string nor a pair of strings");
      }
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        reader_.Fail(Indexed("model.merges", index),
                     "'" + Printable(text, 40) + "' is not two parts with one space between");
      }
      source_.merges.push_back({text.substr(0, space), text.substr(space + 1)});
    });
  }

  void ReadAddedTokens(od::value value) {
    od::array tokens = reader_.Get(value.get_array(), "added_tokens", "an array");
    reader_.Elements(tokens, "added_tokens", [&](size_t index, od::value element) {
      const std::string name = Indexed("added_tokens", index);
      VocabularyToken token{.text = {}, .id = -1, .kind = TokenKind::kAdded};
      od::object object = reader_.Get(element.get_object(), name, "an object");
      reader_.Members(object, name, [&](std::string_view key, od::value member) {
        const std::string field = TokenizerFileReader::Join(name, key);
        if (key == "id") {
          token.id = reader_.Id(member, field);
        } else if (key == "content") {
          token.text = reader_.String(member, field);
          if (token.text.empty()) reader_.Fail(field, "is empty");
        } else if (key == "special") {
          if (reader_.Bool(member, field)) token.kind = TokenKind::kSpecial;
        } else if (key == "lstrip") {
          token.strip_left = reader_.Bool(member, field);
        } else if (key == "rstrip") {
          token.strip_right = reader_.Bool(member, field);
        } else if (key == "normalized") {
          token.normalized = reader_.Bool(member, field);
        } else if (key == "single_word" && reader_.Bool(member, field)) {
          reader_.Fail(field, "is true, which is not supported");
        }
      });
      if (token.id < 0) reader_.Fail(name + ".id", "is missing");
      if (token.text.empty()) reader_.Fail(name + ".content", "is missing");
      added_.push_back(token);
    });
  }

  void ReadPreTokenizer(od::value value, const std::string& name, int depth) {
    if (depth > 4) reader_.Fail(name, "is nested too deeply");
    if (byte_level_) reader_.Fail(name, "follows the ByteLevel step, which must be the last");
    std::string_view type;
    SplitStage split;
    std::string_view behavior;
    bool inverted = false;
    bool use_regex = true;
    bool has_steps = false;
    if (reader_.IsNull(value, name)) return;
    od::object object = reader_.Get(value.get_object(), name, "an object");
    reader_.Members(object, name, [&](std::string_view key, od::value member) {
      const std::string field = TokenizerFileReader::Join(name, key);
      if (key == "type") {
        type = reader_.String(member, field);
      } else if (key == "pretokenizers") {
        has_steps = true;
        od::array steps = reader_.Get(member.get_array(), field, "an array");
        reader_.Elements(steps, field, [&](size_t index, od::value step) {
          ReadPreTokenizer(step, Indexed(field, index), depth + 1);
        });
      } else if (key == "pattern") {
        split.pattern = ReadPattern(member, field);
      } else if (key == "behavior") {
        behavior = reader_.String(member, field);
      } else if (key == "invert") {
        inverted = reader_.Bool(member, field);
      } else if (key == "add_prefix_space") {
        if (reader_.Bool(member, field)) reader_.Fail(field, "is true, which is not supported");
      } else if (key == "use_regex") {
        use_regex = reader_.Bool(member, field);
      }
      // trim_offsets concerns offsets into the text, which Stoker does not report.
    });
    if (type == "Sequence") {
      if (!has_steps) reader_.Fail(name + ".pretokenizers", "is missing");
    } else if (type == "ByteLevel") {
      if (use_regex) source_.stages.push_back({.pattern = kGpt2SplitPattern});
      byte_level_ = true;
    } else if (type == "Split") {
      if (split.pattern.empty()) reader_.Fail(name + ".pattern", "is missing");
      split.drop_gaps = behavior == "Removed" && inverted;
      if (!split.drop_gaps && (behavior != "Isolated" || inverted)) {
        reader_.Fail(name + ".behavior", "'" + Printable(behavior, 40) + "'" +
                                             (inverted ? " inverted" : "") + " is not supported");
      }
      source_.stages.push_back(std::move(split));
      if (source_.stages.size() > kMaxStages) reader_.Fail(name, "is one step too many");
    } else {
      reader_.Fail(name + ".type", type.empty() ? "is missing"
                                                : "'" + Printable(type, 40) + "' is not supported");
    }
    if (has_steps && type != "Sequence") reader_.Fail(name + ".pretokenizers", "is out of place");
  }

  std::string ReadPattern(od::value value, const std::string& field) {
    std::string pattern;
    od::object object = reader_.Get(value.get_object(), field, "an object");
    reader_.Members(object, field, [&](std::string_view key, od::value member) {
      if (key != "Regex") {
        reader_.Fail(TokenizerFileReader::Join(field, key), "is not supported; only Regex is");
      }
      pattern = reader_.String(member, TokenizerFileReader::Join(field, key));
    });
    if (pattern.empty()) reader_.Fail(field + ".Regex", "is missing or empty");
    return pattern;
  }

  void ReadDecoder(od::value value) {
    if (reader_.IsNull(value, "decoder")) return;
    od::object object = reader_.Get(value.get_object(), "decoder", "an object");
    reader_.Members(object, "decoder", [&](std::string_view key, od::value member) {
      if (key != "type") return;
      const std::string_view type = reader_.String(member, "decoder.type");
      if (type != "ByteLevel" && type != "Sequence") {
        reader_.Fail("decoder.type", "'" + Printable(type, 40) + "' is not ByteLevel");
      }
    });
  }

  // An added token that the vocabulary also lists under its id is one token, and an added one.
  void JoinAddedTokens() {
    std::unordered_map<TokenId, size_t> row_of;
    for (size_t i = 0; i < added_.size(); ++i) {
      if (!row_of.emplace(added_[i].id, i).second) {
        reader_.Fail(Indexed("added_tokens", i) + ".id",
                     std::to_string(added_[i].id) + " is given to an earlier added token too");
      }
    }
    std::erase_if(source_.tokens, [&](const VocabularyToken& token) {
      const auto row = row_of.find(token.id);
      return row != row_of.end() && added_[row->second].text == token.text;
    });
    source_.tokens.insert(source_.tokens.end(), added_.begin(), added_.end());
  }

  static constexpr size_t kMaxStages = 16;

  TokenizerFileReader reader_;
  VocabularySource& source_;
  std::vector<VocabularyToken> added_;
  bool byte_level_ = false;
};

}  // namespace

VocabularySource ParseTokenizerJson(std::string_view json, std::string file) {
  VocabularySource source;
  source.file = file;
  source.vocab_field = "model.vocab";
  source.merges_field = "model.merges";
  source.split_field = "pre_tokenizer";
  const TokenizerFileReader reader(file);
  const std::shared_ptr<TokenizerFileDocument> storage = NewTokenizerFileDocument(json, reader);
  od::document document =
      reader.Get(storage->parser.iterate(storage->text), "file", "a JSON document");
  TokenizerJsonReader(std::move(file), source).Read(document);
  source.storage = storage;
  return source;
}

}  // namespace stoker
