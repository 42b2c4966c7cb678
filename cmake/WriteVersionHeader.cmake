# Run with cmake -P by StokerVersion.cmake: VERSION, SOURCE_DIR and OUTPUT are given.

cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND git -C "${SOURCE_DIR}" describe --tags --always --dirty
                OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET RESULT_VARIABLE status)
set(text "${VERSION}")
if(status EQUAL 0 AND revision)  # A source archive has no history; the plain version serves then.
  string(APPEND text " (${revision})")
endif()
file(CONFIGURE OUTPUT "${OUTPUT}"
     CONTENT "#pragma once\n#define STOKER_VERSION_STRING \"@text@\"\n" @ONLY)
