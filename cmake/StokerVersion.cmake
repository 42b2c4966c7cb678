# stoker_version: link it privately to get "stoker_version.h", which defines STOKER_VERSION_STRING,
# such as "0.1.0 (v0.1.0-12-g1a2b3c4)". The header is rewritten at build time when git's answer
# changes, so only the one file that includes it is compiled again after a commit.

set(STOKER_VERSION_DIR "${CMAKE_BINARY_DIR}/generated")
file(MAKE_DIRECTORY "${STOKER_VERSION_DIR}")

add_custom_target(stoker_version_header
  COMMAND "${CMAKE_COMMAND}" "-DVERSION=${PROJECT_VERSION}" "-DSOURCE_DIR=${CMAKE_SOURCE_DIR}"
          "-DOUTPUT=${STOKER_VERSION_DIR}/stoker_version.h"
          -P "${CMAKE_SOURCE_DIR}/cmake/WriteVersionHeader.cmake"
  BYPRODUCTS "${STOKER_VERSION_DIR}/stoker_version.h"
  COMMENT "" VERBATIM)

add_library(stoker_version INTERFACE)
target_include_directories(stoker_version INTERFACE "${STOKER_VERSION_DIR}")
add_dependencies(stoker_version stoker_version_header)
