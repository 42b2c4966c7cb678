#include "runtime/cli/chat_input.h"

#include <utility>

namespace stoker {
namespace {

constexpr std::string_view kBlock = "\"\"\"";

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::string_view TrimEnd(std::string_view text) {
  return text.substr(0, text.find_last_not_of(" \t\r") + 1);  // npos + 1 is 0
}

bool IsCommandName(std::string_view name) {
  return !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz?") == name.npos;
}

}  // namespace

std::optional<ChatInput> ChatInputParser::Push(std::string_view line) {
  if (in_block_) {
    // The closing mark stands alone, indented or not, or ends the last line.
    std::string_view last = TrimEnd(line);
    if (!last.ends_with(kBlock)) {
      pending_.append(line).push_back('\n');
      return std::nullopt;
    }
    last.remove_suffix(kBlock.size());
    if (!Trim(last).empty()) pending_ += last;
    in_block_ = false;
    if (pending_.ends_with('\n')) pending_.pop_back();
    return Take();
  }
  if (!continued_ && Trim(line).starts_with(kBlock)) {
    std::string_view rest = Trim(line).substr(kBlock.size());
    if (rest.ends_with(kBlock)) {
      pending_ = rest.substr(0, rest.size() - kBlock.size());
      return Take();
    }
    in_block_ = true;
    if (!rest.empty()) pending_.assign(rest).push_back('\n');
    return std::nullopt;
  }
  if (!continued_ && line.starts_with('/')) {
    const size_t space = line.find(' ');
    const std::string_view name = Trim(line.substr(1, space == line.npos ? line.npos : space - 1));
    // A path such as /etc/hosts is a message.
    if (IsCommandName(name)) {
      const std::string_view rest = space == line.npos ? "" : Trim(line.substr(space));
      return ChatInput{ChatInput::Kind::kCommand, std::string(rest), std::string(name)};
    }
  }
  if (line.ends_with('\\')) {
    pending_.append(line.substr(0, line.size() - 1)).push_back('\n');
    continued_ = true;
    return std::nullopt;
  }
  continued_ = false;
  pending_ += line;
  return Take();
}

void ChatInputParser::Reset() {
  pending_.clear();
  in_block_ = continued_ = false;
}

std::optional<ChatInput> ChatInputParser::Finish() {
  in_block_ = continued_ = false;
  return Take();
}

std::optional<ChatInput> ChatInputParser::Take() {
  std::string text = std::exchange(pending_, {});
  if (Trim(text).empty()) return std::nullopt;
  return ChatInput{ChatInput::Kind::kMessage, std::move(text), ""};
}

}  // namespace stoker
