# stoker_options: what every target of ours is compiled with. Instruction-set flags are not here:
# each kernel file carries its own, so one binary runs on every x86-64 machine.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

add_library(stoker_options INTERFACE)
target_compile_features(stoker_options INTERFACE cxx_std_20)
target_include_directories(stoker_options INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(stoker_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align
  -Wformat=2 -Werror=return-type -Werror=format-security)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Passing a 32-byte aligned vector by value changed its ABI in GCC 4.6; nothing of ours is older.
  target_compile_options(stoker_options INTERFACE -Wno-psabi -Wduplicated-cond -Wlogical-op)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC bug 105651: false alarms inside std::string's operator+.
    target_compile_options(stoker_options INTERFACE -Wno-restrict)
  endif()
endif()

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
if(STOKER_BUILD_FUZZERS)
  # Enough for stack traces with lines; variables double what clang writes.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -gline-tables-only")
endif()

if(STOKER_CHECKED)
  target_compile_definitions(stoker_options INTERFACE _GLIBCXX_ASSERTIONS)
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  target_compile_definitions(stoker_options INTERFACE NDEBUG)
endif()

if(STOKER_SANITIZE)
  # Every finding is fatal: a test that prints one and passes would hide it.
  target_compile_options(stoker_options INTERFACE
    -fsanitize=${STOKER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(stoker_options INTERFACE -fsanitize=${STOKER_SANITIZE})
endif()

if(STOKER_BUILD_FUZZERS)
  # The libraries under a fuzz target need its coverage counters; only the target links its driver.
  target_compile_options(stoker_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(STOKER_LTO)
  include(CheckIPOSupported)
  check_ipo_supported()
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()

find_program(STOKER_CCACHE ccache)
mark_as_advanced(STOKER_CCACHE)
if(STOKER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${STOKER_CCACHE}")
endif()
