# Warnings as errors everywhere; PIC off; sections trimmed by the linker.
add_library(slipstream_options INTERFACE)
target_compile_options(slipstream_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wimplicit-fallthrough -Werror
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-error=maybe-uninitialized -Wno-dangling-pointer -Wno-missing-field-initializers>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-missing-field-initializers>
  -fno-omit-frame-pointer -msse4.2)
target_include_directories(slipstream_options INTERFACE ${PROJECT_SOURCE_DIR})

# slipstream_library(NAME DIR-GLOBBED-SOURCES... USES other libraries): a static library of one folder's *.cc.
function(slipstream_library name)
  cmake_parse_arguments(ARG "" "" "USES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(NOT sources)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.cc "")
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/empty.cc)
  endif()
  add_library(slipstream_${name} STATIC ${sources})
  target_link_libraries(slipstream_${name} PUBLIC slipstream_options ${ARG_USES})
endfunction()

# slipstream_test(FOLDER LABEL label USES libraries): one GoogleTest program of tests/FOLDER/*_test.cc, each case a CTest.
function(slipstream_test folder)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "USES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${folder}/*.cc)
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" flat ${folder})
  add_executable(${flat}_test ${sources})
  target_link_libraries(${flat}_test PRIVATE slipstream_options ${ARG_USES} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${flat}_test PRIVATE SLIPSTREAM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  gtest_discover_tests(${flat}_test TEST_PREFIX ${folder}. DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
