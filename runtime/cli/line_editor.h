#pragma once

// Reads lines from the user: with editing and a history file through libedit on a terminal,
// plainly when stdin is a file or a pipe. The only file that knows libedit. One a process, main
// thread only. It knows nothing of chat commands or multi-line input.

#include <cstdint>
#include <memory>
#include <string>

namespace stoker {

class LineEditor {
 public:
  enum class Result : uint8_t { kLine, kEnd, kInterrupted };

  // history_file: read now, appended to with every line; empty: none. A history that cannot
  // be read or written is not an error.
  explicit LineEditor(std::string history_file);
  ~LineEditor();

  bool is_terminal() const;

  // One line without its newline. kEnd: Ctrl-D on an empty line, or the end of the file.
  // kInterrupted: Ctrl-C; the line typed so far is dropped. Throws std::system_error when what is
  // no terminal cannot be read.
  Result Read(const std::string& prompt, std::string* line);

  // Remembers an entry (which may have several lines) for recall with the arrow keys.
  void Remember(const std::string& entry);

 private:
  struct Terminal;
  std::unique_ptr<Terminal> terminal_;
};

// ${XDG_STATE_HOME:-~/.local/state}/stoker/chat_history, its directory created; empty when there is
// no home directory.
std::string ChatHistoryFile();

}  // namespace stoker
