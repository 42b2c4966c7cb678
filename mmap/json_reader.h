#pragma once

// A pull parser for the JSON of model directories (RFC 8259): safetensors headers, the shard index
// and config.json. It builds no tree, so memory stays proportional to what the caller keeps and
// a hostile file cannot make it grow; nesting is bounded; text must be UTF-8. One pass, one
// thread. Errors are FormatErrors naming the file, the place and the byte offset.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stoker {

class JsonReader {
 public:
  enum class Kind : uint8_t { kObject, kArray, kString, kNumber, kBool, kNull };

  // Nesting of objects and arrays; headers need 3, configs about 5.
  static constexpr int kMaxDepth = 64;

  // Borrows `text` and `file`; `where` names the document in errors ("header", "config").
  JsonReader(std::string_view text, std::string_view file, std::string_view where)
      : text_(text), file_(file), where_(where) {}

  // What the next value is, without consuming it.
  Kind Peek();

  // for (reader.BeginObject(); reader.NextKey(key);) { read or skip one value }
  void BeginObject() { Open('{'); }
  bool NextKey(std::string& key);
  // for (reader.BeginArray(); reader.NextElement();) { read or skip one value }
  void BeginArray() { Open('['); }
  bool NextElement();

  std::string String();    // escapes resolved
  uint64_t Unsigned();     // a plain decimal integer; refuses signs, fractions and exponents
  double Number();         // finite
  bool Bool();
  void Null();
  // Consumes one whole value, checking its syntax; returns its text.
  std::string_view Skip();
  // Demands that nothing but white space follows.
  void End();

  // FormatError at the present offset.
  [[noreturn]] void Fail(std::string_view reason) const;

 private:
  char PeekChar();  // first character that is no white space; fails at the end
  void Open(char bracket);
  bool Next(char close);  // false at the closing bracket
  void Literal(std::string_view word);
  std::string_view NumberText();
  // Consumes a string; appends its content to `out` unless null.
  void ReadString(std::string* out);
  void ReadEscape(std::string* out);
  uint32_t ReadHex4();
  void CheckUtf8Sequence();

  std::string_view text_;
  std::string_view file_;
  std::string_view where_;
  size_t at_ = 0;
  int depth_ = 0;
  bool first_ = false;  // just after an opening bracket: no comma is due
};

// The members of one JSON object: key and text of the value, in file order; duplicate keys are
// refused. For objects of a few dozen keys such as config.json. Borrows the text.
class JsonObject {
 public:
  // `where` also prefixes the keys in errors of the getters.
  JsonObject(std::string_view text, std::string file, std::string where);

  const std::string& file() const { return file_; }
  bool Has(std::string_view key) const;  // present and not null
  std::vector<std::string> Keys() const;
  // Text of the value; empty when the key is absent.
  std::string_view Raw(std::string_view key) const;
  [[noreturn]] void Fail(std::string_view key, std::string_view reason) const;

 private:
  std::string file_;
  std::string where_;
  std::vector<std::pair<std::string, std::string_view>> members_;  // sorted by key
};

}  // namespace stoker
