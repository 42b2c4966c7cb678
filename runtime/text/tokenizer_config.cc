// Reads what Stoker needs of tokenizer_config.json: the end token, if any. The chat template that
// newer ones hold is passed over, whatever it is: M1's own are built in.

#include <algorithm>

#include "mmap/format_error.h"
#include "runtime/text/tokenizer_json_reader.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

namespace od = simdjson::ondemand;

void ApplyTokenizerConfig(std::string_view json, std::string file, VocabularySource& source) {
  const TokenizerFileReader reader(std::move(file));
  const std::shared_ptr<TokenizerFileDocument> storage = NewTokenizerFileDocument(json, reader);
  od::document document =
      reader.Get(storage->parser.iterate(storage->text), "file", "a JSON document");
  std::string end_token;
  od::object root = reader.Get(document.get_object(), "root", "an object");
  reader.Members(root, "", [&](std::string_view key, od::value value) {
    if (key == "eos_token" && !reader.IsNull(value, "eos_token")) {
      // A string, or an object that describes an added token.
      if (reader.Get(value.type(), "eos_token", "a JSON value") == od::json_type::object) {
        od::object object = reader.Get(value.get_object(), "eos_token", "an object");
        reader.Members(object, "eos_token", [&](std::string_view name, od::value member) {
          if (name == "content") end_token = reader.String(member, "eos_token.content");
        });
      } else {
        end_token = reader.String(value, "eos_token");
      }
      if (end_token.empty()) reader.Fail("eos_token", "is empty");
    } else if (key == "add_prefix_space" && !reader.IsNull(value, "add_prefix_space")) {
      if (reader.Bool(value, "add_prefix_space")) {
        reader.Fail("add_prefix_space", "is true, which is not supported");
      }
    }
  });
  reader.RequireEnd(document);
  if (end_token.empty()) return;
  const auto token = std::find_if(source.tokens.begin(), source.tokens.end(),
                                  [&](const VocabularyToken& t) { return t.text == end_token; });
  if (token == source.tokens.end()) {
    reader.Fail("eos_token", "'" + Printable(end_token) + "' is not a token of " + source.file);
  }
  source.end_tokens.push_back(token->id);
}

}  // namespace stoker
