#pragma once

// The few things of the system's files that several rooms ask for. Free functions without state.

#include <filesystem>
#include <string>

namespace stoker {

// Of a file such as those of /sys and /proc; empty when it cannot be read.
std::string FirstLine(const std::filesystem::path& path);

// $VARIABLE/stoker where the variable holds an absolute path, ~/FALLBACK/stoker otherwise (the XDG
// base directory specification); empty when there is no home. Not created.
std::filesystem::path UserDirectory(const char* variable, const char* fallback);

}  // namespace stoker
