# stoker_add_library(NAME SOURCES a.cc ... [PUBLIC_LIBS ...] [PRIVATE_LIBS ...])
#
# One static library of one room. Sources are listed, never globbed: what is built is what is
# written down. PUBLIC_LIBS are those whose headers our headers include.

function(stoker_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;PUBLIC_LIBS;PRIVATE_LIBS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "stoker_add_library(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()

  stoker_existing_sources(sources ${arg_SOURCES})
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE stoker_options ${arg_PUBLIC_LIBS} ${arg_PRIVATE_LIBS})
    return()
  endif()

  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC stoker_options ${arg_PUBLIC_LIBS}
                                PRIVATE ${arg_PRIVATE_LIBS})
endfunction()

# Leaves out listed files that do not exist, saying so.
function(stoker_existing_sources out)
  set(existing "")
  foreach(source IN LISTS ARGN)
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" OUTPUT_VARIABLE path)
    if(EXISTS "${path}")
      list(APPEND existing "${source}")
    else()
      message(WARNING "listed but absent: ${path}")
    endif()
  endforeach()
  set(${out} "${existing}" PARENT_SCOPE)
endfunction()
