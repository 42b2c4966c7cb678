// Main of every test executable that needs nothing before its tests.

#include "tests/support/run_tests.h"

int main(int argc, char** argv) { return stoker::testing::RunTests(argc, argv); }
