#pragma once

// Runs what Catch2's command line asks for. Catch2's own main returns the number of failed
// assertions, and four of them would be ctest's code for "skipped": here failure is 1, whatever the
// count, and a filter that matches no test is a failure too. File names are tags, "[#gguf_test]":
// that is how ctest runs the tests of one source file of an executable that has many.

namespace stoker::testing {

// Exit code that ctest shows as "skipped".
inline constexpr int kSkipExitCode = 4;

int RunTests(int argc, char** argv);

}  // namespace stoker::testing
