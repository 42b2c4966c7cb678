#pragma once

// The tokenizer files' way through simdjson's on-demand parser: one pass, no document tree, so that
// parsing takes less than seven times the file even for hostile ones (the text, four bytes for each
// that may begin a value, the strings). Every refusal names file and field.
// Included only by the readers of this folder; a TokenizerFileReader is a value, thread-compatible.

#include <simdjson.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mmap/format_error.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

// Deeper nesting than any tokenizer file has.
inline constexpr size_t kMaxTokenizerJsonDepth = 64;

// Parser and text together, because strings borrow from the parser's buffer.
struct TokenizerFileDocument {
  simdjson::padded_string text;
  simdjson::ondemand::parser parser;
};

// Walks one file and knows where it is, so that every refusal names its field.
class TokenizerFileReader {
 public:
  explicit TokenizerFileReader(std::string file) : file_(std::move(file)) {}

  [[noreturn]] void Fail(std::string_view field, std::string_view reason) const {
    throw FormatError(file_, field, reason);
  }

  // The value of a simdjson result, or an error that names the field.
  template <typename T>
  T Get(simdjson::simdjson_result<T> result, std::string_view field,
        std::string_view expected) const {
    T value;
    const simdjson::error_code error = std::move(result).get(value);
    if (error == simdjson::SUCCESS) return value;
    if (error == simdjson::INCORRECT_TYPE || error == simdjson::NUMBER_OUT_OF_RANGE ||
        error == simdjson::NUMBER_ERROR) {
      Fail(field, "is not " + std::string(expected));
    }
    Fail(field, std::string("malformed JSON: ") + simdjson::error_message(error));
  }

  std::string_view String(simdjson::ondemand::value value, std::string_view field) const {
    return Get(value.get_string(), field, "a string");
  }
  bool Bool(simdjson::ondemand::value value, std::string_view field) const {
    return Get(value.get_bool(), field, "true or false");
  }
  bool IsNull(simdjson::ondemand::value value, std::string_view field) const {
    return Get(value.type(), field, "a JSON value") == simdjson::ondemand::json_type::null;
  }
  TokenId Id(simdjson::ondemand::value value, std::string_view field) const {
    const int64_t id = Get(value.get_int64(), field, "an integer");
    if (id < 0 || id > kMaxTokenId) {
      Fail(field, std::to_string(id) + " is not a token id (0 to " + std::to_string(kMaxTokenId) +
                      ")");
    }
    return static_cast<TokenId>(id);
  }

  void RequireEnd(simdjson::ondemand::document& document) const {
    // The location is only unavailable when everything was consumed.
    if (document.current_location().error() == simdjson::SUCCESS) {
      Fail("root", "text follows the JSON value");
    }
  }

  // Calls `visit(key, value)` for every member; the same key twice is an error.
  template <typename Visit>
  void Members(simdjson::ondemand::object object, std::string_view field, Visit visit) const {
    std::vector<std::string_view> seen;
    for (auto member : object) {
      simdjson::ondemand::field entry = Get(std::move(member), field, "an object");
      const std::string_view key = Get(entry.unescaped_key(), field, "a string");
      if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
        Fail(Join(field, key), "appears twice");
      }
      // Objects of a known form; a hostile one must not make this list quadratic.
      if (seen.size() == kMaxMembers) Fail(field, "has too many members");
      seen.push_back(key);
      visit(key, entry.value());
    }
  }

  template <typename Visit>
  void Elements(simdjson::ondemand::array array, std::string_view field, Visit visit) const {
    size_t index = 0;
    for (auto element : array) {
      visit(index++, Get(std::move(element), field, "an array"));
    }
  }

  static std::string Join(std::string_view field, std::string_view key) {
    return (field.empty() ? "" : std::string(field) + ".") + Printable(key, 40);
  }

 private:
  static constexpr size_t kMaxMembers = 256;
  std::string file_;
};

// Copies the text into a document of its own, ready to iterate. Throws FormatError beyond the size
// limit.
inline std::shared_ptr<TokenizerFileDocument> NewTokenizerFileDocument(
    std::string_view json, const TokenizerFileReader& reader) {
  if (json.size() > kMaxTokenizerFileBytes) {
    reader.Fail("file", "has " + std::to_string(json.size()) + " bytes, the limit is " +
                            std::to_string(kMaxTokenizerFileBytes));
  }
  auto document = std::make_shared<TokenizerFileDocument>();
  document->text = simdjson::padded_string(json);
  if (document->parser.allocate(document->text.size(), kMaxTokenizerJsonDepth) !=
      simdjson::SUCCESS) {
    throw std::bad_alloc();
  }
  return document;
}

}  // namespace stoker
