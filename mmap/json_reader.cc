#include "mmap/json_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "mmap/format_error.h"

namespace stoker {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void AppendUtf8(uint32_t code, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 63));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 63));
    put(0x80 | (code & 63));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 63));
    put(0x80 | (code >> 6 & 63));
    put(0x80 | (code & 63));
  }
}

}  // namespace

void JsonReader::Fail(std::string_view reason) const {
  throw FormatError(file_, where_,
                    std::string(reason) + " (at byte " + std::to_string(at_) + " of the text)");
}

char JsonReader::PeekChar() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return c;
    ++at_;
  }
  Fail("ends unexpectedly");
}

JsonReader::Kind JsonReader::Peek() {
  switch (const char c = PeekChar()) {
    case '{':
      return Kind::kObject;
    case '[':
      return Kind::kArray;
    case '"':
      return Kind::kString;
    case 't':
    case 'f':
      return Kind::kBool;
    case 'n':
      return Kind::kNull;
    default:
      if (c == '-' || IsDigit(c)) return Kind::kNumber;
      Fail("malformed JSON: expected a value, found \"" + Printable({&c, 1}) + "\"");
  }
}

void JsonReader::Open(char bracket) {
  if (PeekChar() != bracket) {
    Fail(bracket == '{' ? "expected an object" : "expected an array");
  }
  if (++depth_ > kMaxDepth) Fail("nested deeper than " + std::to_string(kMaxDepth));
  ++at_;
  first_ = true;
}

bool JsonReader::Next(char close) {
  const char c = PeekChar();
  if (c == close) {
    ++at_;
    --depth_;
    first_ = false;
    return false;
  }
  if (!first_) {
    if (c != ',') Fail("malformed JSON: expected \",\" or the end of the object or array");
    ++at_;
  }
  first_ = false;
  return true;
}

bool JsonReader::NextKey(std::string& key) {
  if (!Next('}')) return false;
  if (PeekChar() != '"') Fail("malformed JSON: expected a key");
  key.clear();
  ReadString(&key);
  if (PeekChar() != ':') Fail("malformed JSON: expected \":\"");
  ++at_;
  return true;
}

bool JsonReader::NextElement() {
  if (!Next(']')) return false;
  Peek();
  return true;
}

std::string JsonReader::String() {
  if (PeekChar() != '"') Fail("expected a string");
  std::string text;
  ReadString(&text);
  return text;
}

void JsonReader::ReadString(std::string* out) {
  ++at_;
  while (true) {
    if (at_ >= text_.size()) Fail("ends inside a string");
    const auto byte = static_cast<unsigned char>(text_[at_]);
    if (byte == '"') {
      ++at_;
      return;
    }
    if (byte < 0x20) Fail("malformed JSON: control character in a string");
    if (byte == '\\') {
      ++at_;
      ReadEscape(out);
      continue;
    }
    const size_t begin = at_;
    if (byte < 0x80) {
      ++at_;
    } else {
      CheckUtf8Sequence();
    }
    if (out != nullptr) out->append(text_, begin, at_ - begin);
  }
}

// Well-formed sequences of Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above
// U+10FFFF.
void JsonReader::CheckUtf8Sequence() {
  const auto byte = [&](size_t i) -> unsigned char {
    return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0;
  };
  const unsigned lead = byte(0);
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  size_t length = 0;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    Fail("is not valid UTF-8");
  }
  if (byte(1) < low || byte(1) > high) Fail("is not valid UTF-8");
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) Fail("is not valid UTF-8");
  }
  at_ += length;
}

uint32_t JsonReader::ReadHex4() {
  uint32_t value = 0;
  if (text_.size() - at_ < 4) Fail("ends inside a string");
  const char* begin = text_.data() + at_;
  const auto [end, error] = std::from_chars(begin, begin + 4, value, 16);
  if (error != std::errc() || end != begin + 4) Fail("malformed JSON: bad \\u escape");
  at_ += 4;
  return value;
}

void JsonReader::ReadEscape(std::string* out) {
  if (at_ >= text_.size()) Fail("ends inside a string");
  const char c = text_[at_++];
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  if (c != 'u') {
    const size_t index = kNames.find(c);
    if (index == std::string_view::npos) Fail("malformed JSON: unknown escape");
    if (out != nullptr) out->push_back(kValues[index]);
    return;
  }
  uint32_t code = ReadHex4();
  if (code >= 0xdc00 && code <= 0xdfff) Fail("malformed JSON: lone surrogate");
  if (code >= 0xd800 && code <= 0xdbff) {
    if (!text_.substr(at_).starts_with("\\u")) Fail("malformed JSON: lone surrogate");
    at_ += 2;
    const uint32_t low = ReadHex4();
    if (low < 0xdc00 || low > 0xdfff) Fail("malformed JSON: lone surrogate");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  if (out != nullptr) AppendUtf8(code, *out);
}

std::string_view JsonReader::NumberText() {
  const char first = PeekChar();
  if (first != '-' && !IsDigit(first)) Fail("expected a number");
  const size_t begin = at_;
  const auto digits = [&] {
    const size_t from = at_;
    while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
    if (at_ == from) Fail("malformed JSON: digits expected in a number");
    return at_ - from;
  };
  if (text_[at_] == '-') ++at_;
  const bool leading_zero = at_ < text_.size() && text_[at_] == '0';
  if (digits() > 1 && leading_zero) Fail("malformed JSON: number with a leading zero");
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    digits();
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    digits();
  }
  return text_.substr(begin, at_ - begin);
}

uint64_t JsonReader::Unsigned() {
  const std::string_view text = NumberText();
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    Fail("is " + Printable(text, 40) + ", expected an integer from 0 to 2^64-1");
  }
  return value;
}

double JsonReader::Number() {
  const std::string_view text = NumberText();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    Fail("is " + Printable(text, 40) + ", which no double represents");
  }
  return value;
}

void JsonReader::Literal(std::string_view word) {
  if (!text_.substr(at_).starts_with(word)) Fail("malformed JSON: unknown word");
  at_ += word.size();
}

bool JsonReader::Bool() {
  const char c = PeekChar();
  if (c != 't' && c != 'f') Fail("expected true or false");
  Literal(c == 't' ? "true" : "false");
  return c == 't';
}

void JsonReader::Null() {
  if (PeekChar() != 'n') Fail("expected null");
  Literal("null");
}

std::string_view JsonReader::Skip() {
  PeekChar();
  const size_t begin = at_;
  // Which brackets are open inside this value: kMaxDepth bounds the recursion that is not there.
  bool in_object[kMaxDepth + 1];
  const int outer_depth = depth_;
  std::string key;
  do {
    if (depth_ > outer_depth) {
      const bool more = in_object[depth_] ? NextKey(key) : NextElement();
      if (!more) continue;
    }
    switch (Peek()) {
      case Kind::kObject:
        BeginObject();
        in_object[depth_] = true;
        break;
      case Kind::kArray:
        BeginArray();
        in_object[depth_] = false;
        break;
      case Kind::kString:
        ReadString(nullptr);
        break;
      case Kind::kNumber:
        NumberText();
        break;
      case Kind::kBool:
        Bool();
        break;
      case Kind::kNull:
        Null();
        break;
    }
  } while (depth_ > outer_depth);
  return text_.substr(begin, at_ - begin);
}

void JsonReader::End() {
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') Fail("text after the end of the JSON");
  }
}

JsonObject::JsonObject(std::string_view text, std::string file, std::string where)
    : file_(std::move(file)), where_(std::move(where)) {
  JsonReader reader(text, file_, where_);
  std::string key;
  for (reader.BeginObject(); reader.NextKey(key);) {
    const std::string_view value = reader.Skip();
    members_.emplace_back(key, value);
  }
  reader.End();
  std::sort(members_.begin(), members_.end());
  for (size_t i = 1; i < members_.size(); ++i) {
    if (members_[i].first == members_[i - 1].first) Fail(members_[i].first, "duplicate key");
  }
}

std::vector<std::string> JsonObject::Keys() const {
  std::vector<std::string> keys;
  for (const auto& member : members_) keys.push_back(member.first);
  return keys;
}

void JsonObject::Fail(std::string_view key, std::string_view reason) const {
  throw FormatError(file_, where_ + " key \"" + Printable(key) + "\"", reason);
}

std::string_view JsonObject::Raw(std::string_view key) const {
  const auto it = std::lower_bound(members_.begin(), members_.end(), key,
                                   [](const auto& member, std::string_view k) {
                                     return std::string_view(member.first) < k;
                                   });
  return it == members_.end() || it->first != key ? std::string_view() : it->second;
}

bool JsonObject::Has(std::string_view key) const {
  const std::string_view raw = Raw(key);
  return !raw.empty() && raw != "null";
}

}  // namespace stoker
