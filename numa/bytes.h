#pragma once

// Arithmetic on sizes and byte order. Everything that is derived from bytes of an untrusted file
// goes through CheckedAdd/CheckedMul; inline size arithmetic elsewhere goes through DivCeil and
// AlignUp. Pure functions, thread-safe. Formatting and parsing of sizes for people live here too.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace stoker {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// a / b rounded up. b > 0.
template <std::integral T>
constexpr T DivCeil(T a, T b) {
  return static_cast<T>(a / b + (a % b != 0 ? 1 : 0));
}

// value rounded up to a multiple of alignment (> 0). Wraps on overflow: use CheckedAlignUp on
// values that come from a file.
template <std::unsigned_integral T>
constexpr T AlignUp(T value, T alignment) {
  return DivCeil(value, alignment) * alignment;
}

template <std::unsigned_integral T>
constexpr T AlignDown(T value, T alignment) {
  return value / alignment * alignment;
}

// Sum, product; nullopt where the result does not fit.
constexpr std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

constexpr std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

constexpr std::optional<uint64_t> CheckedAlignUp(uint64_t value, uint64_t alignment) {
  const std::optional<uint64_t> sum = CheckedAdd(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum / alignment * alignment;
}

// Reads a little-endian value at an address of any alignment. All supported machines are
// little-endian, which the static_assert below holds.
template <typename T>
T LoadLe(const void* address) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

template <typename T>
void StoreLe(void* address, T value) {
  std::memcpy(address, &value, sizeof(T));
}

// "18.2 GiB", "640 MiB", "12 B": three significant digits, binary units.
std::string FormatBytes(uint64_t bytes);

// Parses "24G", "24GiB", "24GB", "1.5g", "512M", "4096": K/M/G/T with optional i and B, all powers
// of 1024 (as llama.cpp and systemd read them). nullopt when malformed, negative or above 2^63.
std::optional<uint64_t> ParseBytes(std::string_view text);

}  // namespace stoker
