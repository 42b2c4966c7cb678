# Finds every outside library. Targets to link:
#
#   PkgConfig::HWLOC  PkgConfig::URING  PkgConfig::PCRE2  PkgConfig::XXHASH  PkgConfig::ZSTD
#   PkgConfig::EDIT   OpenMP::OpenMP_CXX  Threads::Threads  fmt::fmt  spdlog::spdlog
#   nlohmann_json::nlohmann_json  simdjson::simdjson  CLI11::CLI11
#   mimalloc          if STOKER_WITH_MIMALLOC
#   DNNL::dnnl        if STOKER_WITH_ONEDNN (runtime/matmul defines STOKER_WITH_ONEDNN=1)
#
# Each has one room it may be included from; tests/lint/check_tree.py holds that.

set(STOKER_SETUP_HINT "run scripts/setup, which installs what is missing")

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(PkgConfig REQUIRED)

function(stoker_find_module target module)
  pkg_check_modules(${target} QUIET IMPORTED_TARGET GLOBAL "${module}")
  if(NOT ${target}_FOUND)
    message(FATAL_ERROR "${module} not found: ${STOKER_SETUP_HINT}")
  endif()
endfunction()
stoker_find_module(HWLOC "hwloc>=2.9")
stoker_find_module(URING "liburing>=2.3")
stoker_find_module(PCRE2 "libpcre2-8>=10.42")
stoker_find_module(XXHASH "libxxhash>=0.8")
stoker_find_module(ZSTD "libzstd>=1.5")
stoker_find_module(EDIT "libedit>=3.1")

foreach(package IN ITEMS fmt spdlog nlohmann_json simdjson CLI11)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} not found: ${STOKER_SETUP_HINT}")
  endif()
endforeach()

if(STOKER_WITH_MIMALLOC)
  find_package(mimalloc QUIET)
  if(NOT mimalloc_FOUND)
    message(FATAL_ERROR "mimalloc not found: ${STOKER_SETUP_HINT}, or configure with "
                        "-DSTOKER_WITH_MIMALLOC=OFF")
  endif()
endif()

if(STOKER_WITH_ONEDNN)
  # scripts/setup knows where it put oneDNN; an empty answer means the system's own is new enough.
  # An absolute path set here keeps CMake from falling back on an older system package.
  if(NOT dnnl_DIR)
    execute_process(COMMAND "${CMAKE_SOURCE_DIR}/scripts/setup" --print-prefix
                    OUTPUT_VARIABLE onednn_prefix OUTPUT_STRIP_TRAILING_WHITESPACE)
    list(PREPEND CMAKE_PREFIX_PATH ${onednn_prefix})
  endif()
  find_package(dnnl 3.7 QUIET CONFIG)
  if(NOT dnnl_FOUND)
    message(FATAL_ERROR "oneDNN >= 3.7 not found: ${STOKER_SETUP_HINT}, or configure with "
                        "-DSTOKER_WITH_ONEDNN=OFF")
  endif()
  message(STATUS "oneDNN ${dnnl_VERSION} in ${dnnl_DIR}")
endif()
