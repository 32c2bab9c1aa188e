# layer(NAME SRCS … DEPS … LINK …): one library a folder. DEPS are folders of ours to its left, LINK is anything else.
# Those that include torch's headers pass TORCH, with MODULES where torch::nn is among them.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_library(headrace_settings INTERFACE)
target_include_directories(headrace_settings INTERFACE ${PROJECT_SOURCE_DIR})
# Designated initialisers leave the other members at their defaults on purpose.
target_compile_options(headrace_settings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-missing-field-initializers -Werror)

function(layer name)
  cmake_parse_arguments(ARG "TORCH;MODULES" "" "SRCS;DEPS;LINK" ${ARGN})
  add_library(headrace_${name} STATIC ${ARG_SRCS})
  list(TRANSFORM ARG_DEPS PREPEND headrace_)
  target_link_libraries(headrace_${name} PUBLIC ${ARG_DEPS} ${ARG_LINK} PRIVATE $<BUILD_INTERFACE:headrace_settings>)
  target_include_directories(headrace_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
  target_compile_features(headrace_${name} PUBLIC cxx_std_20)
  set_target_properties(headrace_${name} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS headrace_${name} EXPORT headraceTargets ARCHIVE DESTINATION lib)
  if(ARG_TORCH)
    target_link_libraries(headrace_${name} PUBLIC headrace_torch)
    headrace_uses_torch(headrace_${name} ${ARGN})
  endif()
endfunction()

# headrace_test(NAME SRCS … DEPS … LABELS … TIMEOUT seconds PREFIX of-the-names [TORCH [MODULES]]): one GoogleTest program, its
# cases found by ctest.
function(headrace_test name)
  cmake_parse_arguments(ARG "TORCH;MODULES" "TIMEOUT;PREFIX" "SRCS;DEPS;LINK;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(CMAKE_BUILD_TYPE STREQUAL Debug)  # the sanitizers' builds are many times slower
    math(EXPR ARG_TIMEOUT "5 * ${ARG_TIMEOUT}")
  endif()
  add_executable(${name} ${ARG_SRCS})
  list(TRANSFORM ARG_DEPS PREPEND headrace_)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} ${ARG_LINK} headrace_settings GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    HEADRACE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" HEADRACE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(ARG_TORCH)
    headrace_uses_torch(${name} TESTS ${ARGN})
  else()
    target_compile_options(${name} PRIVATE -O0)  # compiles in half the time, and what it tests is optimised
    target_precompile_headers(${name} REUSE_FROM headrace_test_pch)
  endif()
  gtest_discover_tests(${name} TEST_PREFIX "${ARG_PREFIX}" DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  # gtest_discover_tests takes a list of labels apart, so they are set when ctest has read the cases.
  set(labels ${CMAKE_CURRENT_BINARY_DIR}/${name}_labels.cmake)
  file(WRITE ${labels} "if(${name}_TESTS)\n"
    "  set_tests_properties(\${${name}_TESTS} PROPERTIES LABELS \"${ARG_LABELS}\")\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${labels})
endfunction()
