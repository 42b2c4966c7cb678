#include "runtime/text/byte_alphabet.h"

#include <array>
#include <cstdint>

namespace stoker {
namespace {

// Bytes that stand for themselves; the others are written U+0100 onwards in ascending order.
constexpr bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
         (byte >= 0xae && byte <= 0xff);
}

constexpr int kAlphabetEnd = 0x144;  // 256 + the 68 bytes that are not printable

struct Alphabet {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, kAlphabetEnd> byte{};

  constexpr Alphabet() {
    byte.fill(-1);
    int next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const int c = IsPrintable(b) ? b : next++;
      character[b] = static_cast<uint16_t>(c);
      byte[c] = static_cast<int16_t>(b);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

bool AppendAlphabetBytes(std::string_view text, std::string* bytes) {
  const size_t old_size = bytes->size();
  for (size_t i = 0; i < text.size();) {
    // Every character of the alphabet lies below U+0144: one byte, or 0xC2..0xC5 and one more.
    const auto lead = static_cast<uint8_t>(text[i]);
    int c = lead;
    size_t length = 1;
    if (lead >= 0x80) {
      const bool whole = lead >= 0xc2 && lead <= 0xc5 && i + 1 < text.size() &&
                         (static_cast<uint8_t>(text[i + 1]) & 0xc0) == 0x80;
      if (!whole) {
        bytes->resize(old_size);
        return false;
      }
      c = (lead & 0x1f) << 6 | (static_cast<uint8_t>(text[i + 1]) & 0x3f);
      length = 2;
    }
    if (c >= kAlphabetEnd || kAlphabet.byte[c] < 0) {
      bytes->resize(old_size);
      return false;
    }
    bytes->push_back(static_cast<char>(kAlphabet.byte[c]));
    i += length;
  }
  return true;
}

std::string AlphabetSpelling(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    const int c = kAlphabet.character[static_cast<uint8_t>(byte)];
    if (c < 0x80) {
      text.push_back(static_cast<char>(c));
    } else {
      text.push_back(static_cast<char>(0xc0 | c >> 6));
      text.push_back(static_cast<char>(0x80 | (c & 0x3f)));
    }
  }
  return text;
}

}  // namespace stoker
