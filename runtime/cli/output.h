#pragma once

// Writing to stdout and stderr the way a command-line program should: whole, unbuffered, honest
// about failure. Main thread only.

#include <atomic>
#include <string>
#include <string_view>
#include <system_error>

namespace stoker {

// Standard output cannot be written: a full disk, say. Told apart from failing reads, after which a
// conversation can go on.
class StdoutError : public std::system_error {
 public:
  using std::system_error::system_error;
};

// The stream of generated text on stdout. A reader that went away (EPIPE) is not an error:
// writing stops and closed() says so.
class TextOutput {
 public:
  // Writes everything. Throws StdoutError for any failure but EPIPE.
  void Write(std::string_view text);

  bool closed() const { return closed_; }
  bool ends_with_newline() const { return last_ == '\n'; }

 private:
  bool closed_ = false;
  char last_ = '\n';
};

// Opens /dev/null for those of descriptors 0..2 that are closed, so that no file opened later takes
// their number. Writing to such a stdout still fails, as it should.
void ReserveStandardDescriptors();

// Generated text (whole UTF-8 characters) as it may be shown on a terminal: control characters
// other than newline and tab, with which a model could move the cursor or worse, become U+FFFD.
// Those are C0, DEL and C1 (U+0080 to U+009F; U+009B begins an escape sequence as ESC [ does).
std::string ForTerminal(std::string_view text);

bool StdoutIsTerminal();
bool StderrIsTerminal();

// One line on stderr.
void PrintNote(std::string_view line);

// Makes `path` hold `content`, as AtomicFile does: the old file or the new one, never half of it.
// Throws std::system_error naming the path.
void WriteFileAtomically(const std::string& path, std::string_view content);

// The whole file, or all of stdin for "-". Throws std::runtime_error when it cannot be read or
// exceeds max_bytes, InterruptedError on Ctrl-C while waiting for stdin.
std::string ReadTextFile(const std::string& path, size_t max_bytes);

}  // namespace stoker
