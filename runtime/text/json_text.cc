#include "runtime/text/json_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

namespace stoker {
namespace {

void AppendString(std::string_view text, std::string* out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"': *out += "\\\""; break;
      case '\\': *out += "\\\\"; break;
      case '\n': *out += "\\n"; break;
      case '\r': *out += "\\r"; break;
      case '\t': *out += "\\t"; break;
      case '\b': *out += "\\b"; break;
      case '\f': *out += "\\f"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *out += "\\u00";
          out->push_back(kHex[c >> 4]);
          out->push_back(kHex[c & 15]);
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

// float.__repr__: the shortest digits that read back equal, plain from 1e-4 up to below 1e16.
void AppendFloat(double value, std::string* out) {
  if (std::isnan(value)) {
    *out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    *out += value < 0 ? "-Infinity" : "Infinity";
    return;
  }
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                    std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(result.ptr - buffer.data()));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) {
    *out += text;
    return;
  }
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c == '-') {
      out->push_back(c);
    } else if (c != '.') {
      digits.push_back(c);
    }
  }
  if (exponent < 0) {
    *out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    return;
  }
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  out->append(digits, 0, whole);
  *out += "." + (digits.size() > whole ? digits.substr(whole) : "0");
}

void Append(const nlohmann::ordered_json& value, int depth, std::string* out) {
  if (depth > kMaxJsonTextDepth) {
    throw std::invalid_argument("JSON is nested deeper than " +
                                std::to_string(kMaxJsonTextDepth) + " levels");
  }
  switch (value.type()) {
    case nlohmann::ordered_json::value_t::string:
      AppendString(value.get_ref<const std::string&>(), out);
      return;
    case nlohmann::ordered_json::value_t::number_float:
      AppendFloat(value.get<double>(), out);
      return;
    case nlohmann::ordered_json::value_t::array: {
      out->push_back('[');
      std::string_view separator;
      for (const auto& element : value) {
        *out += separator;
        Append(element, depth + 1, out);
        separator = ", ";
      }
      out->push_back(']');
      return;
    }
    case nlohmann::ordered_json::value_t::object: {
      out->push_back('{');
      std::string_view separator;
      for (const auto& [key, member] : value.items()) {
        *out += separator;
        AppendString(key, out);
        *out += ": ";
        Append(member, depth + 1, out);
        separator = ", ";
      }
      out->push_back('}');
      return;
    }
    default:  // null, booleans and integers are written alike.
      *out += value.dump();
  }
}

}  // namespace

std::string PythonJson(const nlohmann::ordered_json& value) {
  std::string text;
  Append(value, 0, &text);
  return text;
}

}  // namespace stoker
