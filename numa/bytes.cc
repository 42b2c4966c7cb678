#include "numa/bytes.h"

#include <array>
#include <cstdio>

namespace stoker {

std::string FormatBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {"B",   "KiB", "MiB", "GiB",
                                                        "TiB", "PiB", "EiB"};
  char text[32];
  if (bytes < kKiB) {
    std::snprintf(text, sizeof(text), "%d B", static_cast<int>(bytes));
    return text;
  }
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  // 1023.5 would print as 1024 of the smaller unit; it is 1.00 of the next one.
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  // The bounds are where rounding to that many decimals would add a fourth digit.
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::snprintf(text, sizeof(text), "%.*f %s", decimals, value, kUnits[unit]);
  return text;
}

std::optional<uint64_t> ParseBytes(std::string_view text) {
  size_t at = 0;
  const auto is_digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };

  if (!is_digit()) return std::nullopt;
  uint64_t whole = 0;
  for (; is_digit(); ++at) {
    const std::optional<uint64_t> shifted = CheckedMul(whole, 10);
    if (!shifted) return std::nullopt;
    const std::optional<uint64_t> next =
        CheckedAdd(*shifted, static_cast<uint64_t>(text[at] - '0'));
    if (!next) return std::nullopt;
    whole = *next;
  }
  double fraction = 0.0;
  bool has_fraction = false;
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!is_digit()) return std::nullopt;
    has_fraction = true;
    double weight = 0.1;
    for (; is_digit(); ++at, weight /= 10) fraction += weight * (text[at] - '0');
  }

  if (at < text.size() && text[at] == ' ') ++at;  // FormatBytes writes one.
  uint64_t unit = 1;
  if (at < text.size()) {
    switch (text[at] | 0x20) {
      case 'k':
        unit = kKiB;
        break;
      case 'm':
        unit = kMiB;
        break;
      case 'g':
        unit = kGiB;
        break;
      case 't':
        unit = 1024 * kGiB;
        break;
      default:
        break;
    }
    if (unit != 1) {
      ++at;
      if (at < text.size() && (text[at] | 0x20) == 'i') ++at;
    }
    if (at < text.size() && (text[at] | 0x20) == 'b') ++at;
  }
  if (at != text.size()) return std::nullopt;
  if (text.back() == ' ') return std::nullopt;
  if (has_fraction && unit == 1) return std::nullopt;  // There is no half a byte.

  const std::optional<uint64_t> product = CheckedMul(whole, unit);
  if (!product) return std::nullopt;
  const std::optional<uint64_t> sum =
      CheckedAdd(*product, static_cast<uint64_t>(fraction * static_cast<double>(unit)));
  constexpr uint64_t kLimit = uint64_t{1} << 63;
  if (!sum || *sum > kLimit) return std::nullopt;
  return sum;
}

}  // namespace stoker
