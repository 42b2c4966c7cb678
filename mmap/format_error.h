#pragma once

// How the readers of this room refuse a file: one exception type, one line, always
// "FILE: FIELD: reason". Names that come from the file are quoted through Printable, so a hostile
// name can neither break the line nor flood the terminal. Pure; thread-safe.

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace stoker {

// A malformed, truncated or unsupported model file. what() is one line naming file, field and
// reason.
class FormatError : public std::runtime_error {
 public:
  FormatError(std::string_view file, std::string_view field, std::string_view reason);
};

// `text` with control characters, quotes, backslashes and bytes outside ASCII escaped as \xNN, cut
// to about `max_bytes` with "..." at the end.
std::string Printable(std::string_view text, size_t max_bytes = 80);

// The same for a path: letters outside ASCII stay as they are, since directories have names in
// every script. What is not UTF-8 is escaped.
std::string PrintablePath(std::string_view path);

}  // namespace stoker
