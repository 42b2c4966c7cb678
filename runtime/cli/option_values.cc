#include "runtime/cli/option_values.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <charconv>
#include <system_error>

namespace stoker {

CLI::Validator WholeNumber(int64_t low, int64_t high) {
  const auto reason = [low, high](std::string& text) -> std::string {
    int64_t value = 0;
    const std::errc error = std::from_chars(text.data(), text.data() + text.size(), value).ec;
    // Spelled as we would: no leading zeros, no plus, nothing behind it.
    const bool is_plain = error == std::errc() && std::to_string(value) == text;
    if (is_plain && low <= value && value <= high) return "";
    return fmt::format("{} is not a whole number from {} to {}", text, low, high);
  };
  return CLI::Validator(reason, fmt::format("INT in [{} - {}]", low, high));
}

CLI::Option* AddSeed(CLI::App& app, uint64_t* seed, const std::string& help) {
  return app.add_option("-s,--seed", *seed, help)
      ->check(WholeNumber(0, kLargestSeed))
      ->capture_default_str()
      ->type_name("N");
}

}  // namespace stoker
