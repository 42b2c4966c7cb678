#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "tests/support/catch.h"

#include "tests/support/run_tests.h"

namespace stoker::testing {

int RunTests(int argc, char** argv) {
  Catch::Session session;
  session.configData().filenamesAsTags = true;
#ifdef CATCH_CONFIG_RUNNER
  // Version 3 fails without being asked.
  session.configData().warnings = Catch::WarnAbout::NoTests;
#endif
  return session.run(argc, argv) == 0 ? 0 : 1;
}

}  // namespace stoker::testing
