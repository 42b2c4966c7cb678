# stoker_add_test(NAME name SOURCES a.cc ... LIBS ... LABELS unit|golden|io|slow [TIMEOUT seconds]
#                 [ENVIRONMENT NAME=value ...] [NO_MAIN])
#
# One executable and one ctest test. Catch2's main comes along unless NO_MAIN. Tests include Catch2
# as "tests/support/catch.h". A test that cannot run here exits with 4 and ctest shows it as
# skipped; STOKER_GOLDEN_DIR and STOKER_SOURCE_DIR reach it through the environment, STOKER_BINARY
# (the stoker command) too. Default TIMEOUT: 60 s.
#
# A test that links nothing beyond stoker_numa, stoker_mmap and stoker_text is a parser test: it
# gets the label parser, belongs to the target parser_tests, and scripts/test runs it a second time under the sanitizers. The others may
# start a thread team over the whole machine, so ctest runs them alone.

set(STOKER_TEST_SKIP_CODE 4)

add_custom_target(parser_tests)

if(STOKER_BUILD_TESTS)
  find_package(Catch2 QUIET)
  if(NOT Catch2_FOUND)
    message(FATAL_ERROR "Catch2 not found: ${STOKER_SETUP_HINT}, or configure with "
                        "-DSTOKER_BUILD_TESTS=OFF")
  endif()
endif()

function(stoker_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "NO_MAIN" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;ENVIRONMENT")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES OR NOT arg_LABELS)
    message(FATAL_ERROR "stoker_add_test(${arg_NAME}): needs NAME, SOURCES and LABELS; "
                        "unknown: '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  stoker_existing_sources(sources ${arg_SOURCES})
  if(NOT STOKER_BUILD_TESTS OR NOT sources)
    return()
  endif()

  set(beyond_parsers ${arg_LIBS})
  list(FILTER beyond_parsers INCLUDE REGEX "^stoker_(experts|runtime|bench)")
  if(beyond_parsers AND STOKER_ONLY_PARSER_TESTS)
    return()
  endif()

  add_executable(${arg_NAME} ${sources})
  target_link_libraries(${arg_NAME} PRIVATE stoker_options ${arg_LIBS})
  if(NOT arg_NO_MAIN)
    target_link_libraries(${arg_NAME} PRIVATE stoker_test_main)
  endif()
  set(test ${STOKER_TEST_PREFIX}${arg_NAME})
  add_test(NAME ${test} COMMAND ${arg_NAME})
  if(beyond_parsers)
    set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
  else()
    list(APPEND arg_LABELS parser)
    add_dependencies(parser_tests ${arg_NAME})
  endif()
  set_tests_properties(${test} PROPERTIES
    LABELS "${arg_LABELS}"
    TIMEOUT ${arg_TIMEOUT}
    SKIP_RETURN_CODE ${STOKER_TEST_SKIP_CODE}
    ENVIRONMENT "STOKER_GOLDEN_DIR=${STOKER_GOLDEN_DIR};STOKER_SOURCE_DIR=${CMAKE_SOURCE_DIR};\
STOKER_BINARY=${CMAKE_BINARY_DIR}/bin/stoker;${arg_ENVIRONMENT}")
endfunction()
