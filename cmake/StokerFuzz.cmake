# stoker_add_fuzzer(NAME name SOURCES a.cc ... LIBS ... [CORPUS dir] [MAX_LEN bytes])
#
# A libFuzzer target, built by the target fuzzers in the fuzz preset only; elsewhere the call does
# nothing. Link only what is under test (stoker_mmap, stoker_text): all of it is built again. Its ctest test
# (label fuzz) runs it for STOKER_FUZZ_SECONDS on a copy of CORPUS, so that findings never land in
# the checkout.

set(STOKER_FUZZ_SECONDS 30 CACHE STRING "How long the ctest test of each fuzz target runs")

if(STOKER_BUILD_FUZZERS AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "libFuzzer comes with clang: use the fuzz preset")
endif()

add_custom_target(fuzzers)

function(stoker_add_fuzzer)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;CORPUS;MAX_LEN" "SOURCES;LIBS")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES)
    message(FATAL_ERROR "stoker_add_fuzzer(${arg_NAME}): needs NAME and SOURCES; "
                        "unknown: '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  stoker_existing_sources(sources ${arg_SOURCES})
  if(NOT STOKER_BUILD_FUZZERS OR NOT sources)
    return()
  endif()
  if(NOT arg_MAX_LEN)
    set(arg_MAX_LEN 65536)
  endif()

  add_executable(${arg_NAME} ${sources})
  add_dependencies(fuzzers ${arg_NAME})
  target_link_libraries(${arg_NAME} PRIVATE stoker_options ${arg_LIBS})
  target_link_options(${arg_NAME} PRIVATE -fsanitize=fuzzer)

  set(corpus "${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.corpus")
  file(MAKE_DIRECTORY "${corpus}")
  if(arg_CORPUS)
    file(COPY "${CMAKE_CURRENT_SOURCE_DIR}/${arg_CORPUS}/" DESTINATION "${corpus}")
  endif()
  math(EXPR timeout "${STOKER_FUZZ_SECONDS} + 60")
  add_test(NAME ${STOKER_TEST_PREFIX}${arg_NAME}
           COMMAND ${arg_NAME} -max_total_time=${STOKER_FUZZ_SECONDS} -max_len=${arg_MAX_LEN}
                   -rss_limit_mb=1024 -timeout=10 -print_final_stats=1
                   -artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}- "${corpus}")
  set_tests_properties(${STOKER_TEST_PREFIX}${arg_NAME} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()
