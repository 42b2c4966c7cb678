#include "numa/system_files.h"

#include <cstdlib>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

TEST_CASE("first lines") {
  const test::TempDir directory;
  test::WriteFile(directory.path() / "two", "one line\nanother\n");
  test::WriteFile(directory.path() / "none", "");
  CHECK(FirstLine(directory.path() / "two") == "one line");
  CHECK(FirstLine(directory.path() / "none").empty());
  CHECK(FirstLine(directory.path() / "missing").empty());
}

TEST_CASE("status fields") {
  const test::TempDir directory;
  test::WriteFile(directory.path() / "status", "Name:\tx\nVmPinned: 1\nVmPin:\t   64 kB\nEmpty:\n");
  CHECK(StatusField(directory.path() / "status", "Name") == "x");
  CHECK(StatusField(directory.path() / "status", "VmPin") == "64 kB");
  CHECK(StatusField(directory.path() / "status", "Empty").empty());
  CHECK(StatusField(directory.path() / "status", "Vm").empty());
  CHECK(StatusField(directory.path() / "missing", "Name").empty());
}

TEST_CASE("user directories follow the variable, then the home") {
  ::setenv("STOKER_TEST_DIRECTORY", "/somewhere", 1);
  CHECK(UserDirectory("STOKER_TEST_DIRECTORY", ".cache") == "/somewhere/stoker");
  ::setenv("STOKER_TEST_DIRECTORY", "relative", 1);  // to be ignored, says the specification
  const char* const home = std::getenv("HOME");
  const std::string kept = home != nullptr ? home : "";
  ::setenv("HOME", "/home/someone", 1);
  CHECK(UserDirectory("STOKER_TEST_DIRECTORY", ".cache") == "/home/someone/.cache/stoker");
  ::unsetenv("STOKER_TEST_DIRECTORY");
  CHECK(UserDirectory("STOKER_TEST_DIRECTORY", ".local/state") ==
        "/home/someone/.local/state/stoker");
  ::unsetenv("HOME");
  CHECK(UserDirectory("STOKER_TEST_DIRECTORY", ".cache").empty());
  if (home != nullptr) ::setenv("HOME", kept.c_str(), 1);
}

}  // namespace
}  // namespace stoker
