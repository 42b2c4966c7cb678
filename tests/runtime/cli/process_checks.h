#pragma once

// What tests of the binary ask of its outputs. For tests only.

#include <string>
#include <vector>

#include "tests/runtime/cli/stoker_process.h"
#include "tests/support/catch.h"

namespace stoker::test {

inline bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Ends with this code, nothing on stdout and one line on stderr that holds `text`.
inline void CheckRefused(const std::vector<std::string>& arguments, int code,
                         const std::string& text) {
  const ProcessResult r = RunStoker(arguments);
  CAPTURE(arguments, r.err);
  CHECK(r.exit_code == code);
  CHECK(r.out.empty());
  CHECK(r.err.starts_with("stoker: "));
  CHECK(r.err.find('\n') == r.err.size() - 1);
  CHECK(Contains(r.err, text));
}

}  // namespace stoker::test
