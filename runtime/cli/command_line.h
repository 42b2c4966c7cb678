#pragma once

// The git-style command line: finds the command, parses its options, runs it, and turns every
// outcome into an exit code and at most one line on stderr. Knows no command itself; main.cc hands
// it the table. Main thread only.

#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace stoker {

inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;

// Arguments that parse one by one but do not fit together: exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Command {
  std::string_view name;
  std::string_view summary;
  // Adds the command's options to `app` and returns what to run when they are parsed; that function
  // owns the parsed values and returns an exit code.
  std::function<int()> (*declare)(CLI::App& app);
};

// Runs `stoker arguments...`. Help and version go to stdout; errors are one line
// "stoker: ..." on stderr. Catches every std::exception: this is the program's outer boundary.
int RunCommandLine(std::span<const Command> commands, std::vector<std::string> arguments);

// Writes "stoker: message" to stderr as one line, whatever the message holds.
void PrintError(std::string_view message);

}  // namespace stoker
