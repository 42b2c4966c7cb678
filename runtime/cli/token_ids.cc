#include "runtime/cli/token_ids.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/output.h"

namespace stoker {
namespace {

constexpr size_t kMaxFileBytes = 256 * kMiB;
constexpr std::string_view kSeparators = ", \t\r\n";

}  // namespace

std::vector<TokenId> ParseTokenIds(const std::string& argument) {
  const bool is_file = argument.starts_with('@');
  const std::string content = is_file ? ReadTextFile(argument.substr(1), kMaxFileBytes) : argument;
  std::vector<TokenId> ids;
  std::string_view rest = content;
  while (true) {
    const size_t begin = rest.find_first_not_of(kSeparators);
    if (begin == rest.npos) break;
    rest.remove_prefix(begin);
    const std::string_view word = rest.substr(0, rest.find_first_of(kSeparators));
    TokenId id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0) {
      throw UsageError(fmt::format("{}: {} is not a token id", is_file ? argument : "--ids",
                                   word.substr(0, 40)));
    }
    ids.push_back(id);
    rest.remove_prefix(word.size());
  }
  if (ids.empty()) throw UsageError("--ids: no token ids in " + (is_file ? argument : "it"));
  return ids;
}

}  // namespace stoker
