// Main of every test executable. Catch2's own returns the number of failed assertions, and four of
// them would be ctest's code for "skipped": here failure is 1, whatever the count.

#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "tests/support/catch.h"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv) == 0 ? 0 : 1; }
