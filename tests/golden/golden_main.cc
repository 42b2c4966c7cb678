// Says why and exits as "skipped" where the reference models or the forced kernel level are
// missing.

#include <cstdio>
#include <exception>

#include "numa/cpu_features.h"
#include "tests/support/golden_file.h"
#include "tests/support/run_tests.h"

int main(int argc, char** argv) {
  if (stoker::testing::GoldenDirectory().empty()) {
    std::printf("skipped: no reference models; set STOKER_GOLDEN_DIR\n");
    return stoker::testing::kSkipExitCode;
  }
  try {
    stoker::ActiveIsaLevel();
  } catch (const std::exception& error) {
    std::printf("skipped: %s\n", error.what());
    return stoker::testing::kSkipExitCode;
  }
  return stoker::testing::RunTests(argc, argv);
}
