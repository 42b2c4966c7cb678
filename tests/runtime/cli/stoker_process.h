#pragma once

// Runs the real stoker binary (STOKER_BINARY) as a user would: with pipes or under a
// pseudo-terminal. Every wait has a limit. For tests only; not thread-safe.

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace stoker::test {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal when killed by one
  std::string out;
  std::string err;
};

// Feeds `input` to stdin and collects both outputs. Throws std::runtime_error after `seconds`.
ProcessResult RunStoker(const std::vector<std::string>& arguments, const std::string& input = "",
                        int seconds = 60);

// A running stoker. Outputs are read as they come.
class StokerProcess {
 public:
  enum class Terminal { kNone, kPty };
  StokerProcess(const std::vector<std::string>& arguments, Terminal terminal);
  ~StokerProcess();
  StokerProcess(const StokerProcess&) = delete;
  StokerProcess& operator=(const StokerProcess&) = delete;

  void Send(const std::string& text);
  void CloseInput();
  void Signal(int number);
  // The reader of its standard output goes away.
  void CloseOutput();
  // Reads until `text` was seen in the output (both streams under a pty, else stdout) or `seconds`
  // passed.
  bool WaitFor(const std::string& text, int seconds = 60);
  // The same of stderr.
  bool WaitForError(const std::string& text, int seconds = 60);
  // Waits for the end, reading everything. Throws std::runtime_error after `seconds`.
  ProcessResult Finish(int seconds = 60);
  const std::string& out() const { return result_.out; }

 private:
  bool Pump(int milliseconds);
  bool WaitIn(const std::string& stream, const std::string& text, int seconds);

  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  ProcessResult result_;
};

}  // namespace stoker::test
