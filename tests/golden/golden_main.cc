// Says why and exits as "skipped" where the reference models are missing.

#include <cstdio>

#include "tests/support/golden_file.h"
#include "tests/support/run_tests.h"

int main(int argc, char** argv) {
  if (stoker::testing::GoldenDirectory().empty()) {
    std::printf("skipped: no reference models; set STOKER_GOLDEN_DIR\n");
    return stoker::testing::kSkipExitCode;
  }
  return stoker::testing::RunTests(argc, argv);
}
