#include "mmap/format_error.h"

#include <cstddef>

namespace stoker {
namespace {

constexpr size_t kMaxPathBytes = 4096;

void AppendEscaped(unsigned char byte, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  if (byte >= 0x20 && byte < 0x7f && byte != '\\' && byte != '"') {
    out.push_back(static_cast<char>(byte));
  } else {
    out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
  }
}

// Length of the UTF-8 sequence at the front of `text` if it encodes a character from U+00A0 up, so
// that no control character passes, C1 ones and overlong forms included; else 0.
size_t VisibleSequence(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned char {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const unsigned lead = byte(0);
  const size_t length = lead >= 0xf0 && lead <= 0xf4   ? 4
                        : lead >= 0xe0 && lead <= 0xef ? 3
                        : lead >= 0xc2 && lead <= 0xdf ? 2
                                                       : 0;
  for (size_t i = 1; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  // The smallest second byte that is neither overlong nor, after C2, a control character, and the
  // largest that is neither a surrogate nor beyond U+10FFFF.
  const unsigned least = lead == 0xc2 || lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  return byte(1) < least || byte(1) > most ? 0 : length;
}

}  // namespace

FormatError::FormatError(std::string_view file, std::string_view field, std::string_view reason)
    : std::runtime_error(PrintablePath(file) + ": " + std::string(field) + ": " +
                         std::string(reason)) {}

std::string Printable(std::string_view text, size_t max_bytes) {
  std::string out;
  for (const char c : text) {
    if (out.size() >= max_bytes) return out + "...";
    AppendEscaped(static_cast<unsigned char>(c), out);
  }
  return out;
}

std::string PrintablePath(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    if (out.size() >= kMaxPathBytes) return out + "...";
    if (const size_t length = VisibleSequence(path); length != 0) {
      out += path.substr(0, length);
      path.remove_prefix(length);
    } else {
      AppendEscaped(static_cast<unsigned char>(path[0]), out);
      path.remove_prefix(1);
    }
  }
  return out;
}

}  // namespace stoker
