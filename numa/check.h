#pragma once

// STOKER_CHECK states an invariant whose violation is a bug in Stoker, never a bad input or a
// failed operation: it prints the condition, the place and the values, and aborts, in every build
// type. Operating errors are exceptions (std::runtime_error, std::system_error) instead.

#include <cstdio>
#include <cstdlib>

namespace stoker::detail {

[[noreturn]] inline void CheckFailed(const char* condition, const char* file, int line,
                                     const char* message) {
  std::fprintf(stderr, "stoker: bug: %s:%d: check failed: %s%s%s\n", file, line, condition,
               *message != '\0' ? ": " : "", message);
  std::fflush(stderr);
  std::abort();
}

}  // namespace stoker::detail

// `message` is a C string that is only evaluated on failure.
#define STOKER_CHECK_MSG(condition, message)                                  \
  do {                                                                        \
    if (!(condition)) [[unlikely]]                                            \
      ::stoker::detail::CheckFailed(#condition, __FILE__, __LINE__, message); \
  } while (false)

#define STOKER_CHECK(condition) STOKER_CHECK_MSG(condition, "")
