# stoker_add_test(NAME name SOURCES a.cc ... LIBS ... LABELS unit|golden|io|slow [TIMEOUT seconds]
#                 [ENVIRONMENT NAME=value ...] [ISA_LEVELS scalar avx2 avx512] [NO_MAIN] [TIMED])
#
# One executable and one ctest test, or with ISA_LEVELS one test per level, NAME_LEVEL, that forces
# the kernels by STOKER_ISA. Catch2's main comes along unless NO_MAIN. Tests include Catch2
# as "tests/support/catch.h". A test that cannot run here exits with 4 and ctest shows it as
# skipped; STOKER_GOLDEN_DIR and STOKER_SOURCE_DIR reach it through the environment, STOKER_BINARY
# (the stoker command) too. Default TIMEOUT: 60 s.
#
# A test that links stoker_mmap or stoker_text and nothing above is a parser test, unless it is TIMED
# (it asserts a speed, or takes minutes under a sanitizer): it gets the label parser, belongs to the
# target parser_tests, and scripts/test runs it a second time under the sanitizers. Tests that link
# rooms above may start a thread team over the whole machine, so ctest runs them alone.

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
  cmake_parse_arguments(PARSE_ARGV 0 arg "NO_MAIN;TIMED" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;ENVIRONMENT;ISA_LEVELS")
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

  set(above ${arg_LIBS})
  list(FILTER above INCLUDE REGEX "^stoker_(experts|kernels|runtime|cli|bench)")
  set(parser ${arg_LIBS})
  list(FILTER parser INCLUDE REGEX "^stoker_(mmap|text)$")
  if(above OR arg_TIMED)
    set(parser "")
  endif()
  if(STOKER_ONLY_PARSER_TESTS AND NOT parser)
    return()
  endif()

  add_executable(${arg_NAME} ${sources})
  target_link_libraries(${arg_NAME} PRIVATE stoker_options ${arg_LIBS})
  # What is tested is optimised; the test around it compiles faster and runs as fast without.
  if(STOKER_SANITIZE MATCHES "address")
    target_compile_options(${arg_NAME} PRIVATE -O0 -g0 -fno-sanitize=all)
  else()
    target_compile_options(${arg_NAME} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  if(NOT arg_NO_MAIN)
    target_link_libraries(${arg_NAME} PRIVATE stoker_test_main)
  endif()
  if(parser)
    list(APPEND arg_LABELS parser)
    add_dependencies(parser_tests ${arg_NAME})
  endif()
  set(suffixes "")
  foreach(level IN LISTS arg_ISA_LEVELS)
    list(APPEND suffixes _${level})
  endforeach()
  if(NOT suffixes)
    set(suffixes "none")
  endif()
  foreach(suffix IN LISTS suffixes)
    set(environment "STOKER_GOLDEN_DIR=${STOKER_GOLDEN_DIR}" "STOKER_SOURCE_DIR=${CMAKE_SOURCE_DIR}"
        "STOKER_BINARY=${CMAKE_BINARY_DIR}/bin/stoker"
        # Tests bound the memory of what they call, which a long quarantine would hide.
        "ASAN_OPTIONS=quarantine_size_mb=8" ${arg_ENVIRONMENT})
    set(test ${STOKER_TEST_PREFIX}${arg_NAME})
    if(NOT suffix STREQUAL "none")
      string(APPEND test ${suffix})
      string(SUBSTRING ${suffix} 1 -1 level)
      list(APPEND environment STOKER_ISA=${level})
    endif()
    add_test(NAME ${test} COMMAND ${arg_NAME})
    set_tests_properties(${test} PROPERTIES
      LABELS "${arg_LABELS}"
      TIMEOUT ${arg_TIMEOUT}
      SKIP_RETURN_CODE ${STOKER_TEST_SKIP_CODE}
      ENVIRONMENT "${environment}")
    if(above)
      set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
    endif()
  endforeach()
endfunction()
