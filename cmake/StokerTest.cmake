# stoker_add_test(NAME name SOURCES a.cc ... LIBS ... LABELS unit|golden|io|slow [TIMEOUT seconds]
#                 [ENVIRONMENT NAME=value ...] [DEPENDS target ...] [ISA_LEVELS scalar avx2 avx512]
#                 [ALONE] [DEFINITIONS MACRO ...] [NO_MAIN] [TIMED])
#
# One ctest test, or with ISA_LEVELS one per level, NAME_LEVEL, that forces the kernels by
# STOKER_ISA; skipped where the machine has no such level. It runs the TEST_CASEs of those SOURCES
# that end in _test.cc, in a process of its own. The tests of one folder share one executable, named
# after the folder ("mmap_tests"), and all tests one precompiled header. ALONE (SOURCES change the
# program, such as its operator new), DEFINITIONS and NO_MAIN (SOURCES have a main) give a test an
# executable of its own, NAME. DEPENDS: what must be built before, such as a program it starts.
#
# Tests include Catch2 as "tests/support/catch.h". A test that cannot run here exits with 4 and
# ctest shows it as skipped; STOKER_GOLDEN_DIR and STOKER_SOURCE_DIR reach it through the
# environment, STOKER_BINARY (the stoker command) too. Default TIMEOUT: 60 s.
#
# A test that links stoker_mmap or stoker_text and nothing above is a parser test, unless it is TIMED
# (it asserts a speed, or takes minutes under a sanitizer): it gets the label parser, belongs to the
# target parser_tests, and scripts/test runs it a second time under the sanitizers. Tests that link
# rooms above and are more than unit tests may start a thread team over the whole machine, so ctest
# runs them alone.

set(STOKER_TEST_SKIP_CODE 4)

add_custom_target(parser_tests)

if(STOKER_BUILD_TESTS)
  find_package(Catch2 QUIET)
  if(NOT Catch2_FOUND)
    message(FATAL_ERROR "Catch2 not found: ${STOKER_SETUP_HINT}, or configure with "
                        "-DSTOKER_BUILD_TESTS=OFF")
  endif()
endif()

# What every executable of tests is: compiled quickly, since what is tested is optimised already.
function(stoker_add_test_executable name)
  add_executable(${name})
  target_link_libraries(${name} PRIVATE stoker_options stoker_test_runner)
  target_precompile_headers(${name} REUSE_FROM stoker_test_main)
  stoker_test_options(${name})
endfunction()

# The precompiled header and all that use it must agree in these.
function(stoker_test_options name)
  if(STOKER_SANITIZE MATCHES "address")
    target_compile_options(${name} PRIVATE -O0 -g0 -fno-sanitize=all)
  else()
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()

function(stoker_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "ALONE;NO_MAIN;TIMED" "NAME;TIMEOUT"
                        "SOURCES;LIBS;LABELS;ENVIRONMENT;DEPENDS;DEFINITIONS;ISA_LEVELS")
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

  # 1. The executable, and the filter that picks this test's files out of it.
  if(arg_ALONE OR arg_NO_MAIN OR arg_DEFINITIONS)
    set(executable ${arg_NAME})
    set(filter "")
    stoker_add_test_executable(${executable})
  else()
    file(RELATIVE_PATH folder "${CMAKE_SOURCE_DIR}/tests" "${CMAKE_CURRENT_SOURCE_DIR}")
    string(REPLACE "/" "_" folder "${folder}")
    set(executable ${folder}_tests)
    if(NOT TARGET ${executable})
      stoker_add_test_executable(${executable})
    endif()
    set(filter ${sources})
    list(FILTER filter INCLUDE REGEX "_test\\.cc$")  # The others help.
    list(TRANSFORM filter REPLACE "^(.*/)?([^/]*)\\.cc$" "[#\\2]")
    list(JOIN filter "," filter)
  endif()
  if(NOT arg_NO_MAIN)
    target_link_libraries(${executable} PRIVATE stoker_test_main)
  endif()
  get_target_property(present ${executable} SOURCES)
  if(present)
    list(REMOVE_ITEM sources ${present})  # A helper that several tests name.
  endif()
  target_sources(${executable} PRIVATE ${sources})
  target_link_libraries(${executable} PRIVATE ${arg_LIBS})
  target_compile_definitions(${executable} PRIVATE ${arg_DEFINITIONS})
  if(arg_DEPENDS)
    add_dependencies(${executable} ${arg_DEPENDS})
  endif()
  if(parser)
    list(APPEND arg_LABELS parser)
    add_dependencies(parser_tests ${executable})
  endif()

  # 2. The ctest tests.
  set(suffixes "")
  foreach(level IN LISTS arg_ISA_LEVELS)
    list(APPEND suffixes _${level})
  endforeach()
  if(NOT suffixes)
    set(suffixes "none")
  endif()
  foreach(suffix IN LISTS suffixes)
    set(level "")
    set(environment "STOKER_GOLDEN_DIR=${STOKER_GOLDEN_DIR}" "STOKER_SOURCE_DIR=${CMAKE_SOURCE_DIR}"
        "STOKER_BINARY=${CMAKE_BINARY_DIR}/bin/stoker"
        "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/test-cache"  # what programs keep of measurements
        # Tests bound the memory of what they call, which a long quarantine would hide.
        "ASAN_OPTIONS=quarantine_size_mb=8"
        "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan_suppressions.txt"
        ${arg_ENVIRONMENT})
    set(test ${STOKER_TEST_PREFIX}${arg_NAME})
    if(NOT suffix STREQUAL "none")
      string(APPEND test ${suffix})
      string(SUBSTRING ${suffix} 1 -1 level)
      list(APPEND environment STOKER_ISA=${level})
    endif()
    add_test(NAME ${test} COMMAND ${executable} ${filter})
    set_tests_properties(${test} PROPERTIES
      LABELS "${arg_LABELS}"
      TIMEOUT ${arg_TIMEOUT}
      SKIP_RETURN_CODE ${STOKER_TEST_SKIP_CODE}
      ENVIRONMENT "${environment}")
    if(level)
      # What a forced level says that this machine does not have.
      set_tests_properties(${test} PROPERTIES SKIP_REGULAR_EXPRESSION "this machine has at most")
    endif()
    if(above AND NOT "unit" IN_LIST arg_LABELS)
      set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
    endif()
  endforeach()
endfunction()
