#pragma once

// The few things of the system and its files that several rooms ask for. Free functions.

#include <filesystem>
#include <string>
#include <string_view>

namespace stoker {

// Of a file such as those of /sys and /proc; empty when it cannot be read.
std::string FirstLine(const std::filesystem::path& path);

// What follows "key:" and blanks on its line of a file such as /proc/self/status; empty when there
// is none.
std::string StatusField(const std::filesystem::path& path, std::string_view key);

// $VARIABLE/stoker where the variable holds an absolute path, ~/FALLBACK/stoker otherwise (the XDG
// base directory specification); empty when there is no home. Not created.
std::filesystem::path UserDirectory(const char* variable, const char* fallback);

// As many open files as this process may have: a checkpoint of hundreds of files is opened more
// than once, and the usual limit is 1024, kept low for programs that select(2). Process-wide.
void RaiseOpenFileLimit();

}  // namespace stoker
