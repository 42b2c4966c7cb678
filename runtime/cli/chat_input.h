#pragma once

// What the user means by the lines typed into `chat`: a message (of one line, of several joined
// by a trailing backslash, or a block between lines of """), or a /command. Pure state machine,
// apart from the editor so that it can be tested. Not thread-safe.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace stoker {

struct ChatInput {
  enum class Kind : uint8_t { kMessage, kCommand };
  Kind kind = Kind::kMessage;
  std::string text;     // the message, or the rest of the line after the command
  std::string command;  // "save" for /save
};

class ChatInputParser {
 public:
  // Takes the next line; the finished input, or nullopt while more lines are needed. Empty lines
  // outside a block give nullopt too.
  std::optional<ChatInput> Push(std::string_view line);

  // True inside an unfinished message: the prompt shows it.
  bool continues() const { return in_block_ || continued_; }
  // Drops an unfinished message (Ctrl-C).
  void Reset();
  // The end of the input: an unfinished message counts as finished.
  std::optional<ChatInput> Finish();

 private:
  std::optional<ChatInput> Take();

  std::string pending_;
  bool in_block_ = false;
  bool continued_ = false;
};

}  // namespace stoker
