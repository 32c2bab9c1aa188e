# What torch sources include costs 20 s to read, and torch/torch.h, which users' modules need, 35; with a precompiled
# header a source begins after 2 and 5.
function(headrace_torch_headers name)
  file(WRITE ${PROJECT_BINARY_DIR}/${name}.cc "")
  add_library(headrace_${name} STATIC ${PROJECT_BINARY_DIR}/${name}.cc)
  target_link_libraries(headrace_${name} PUBLIC headrace_torch PRIVATE headrace_settings)
  target_precompile_headers(headrace_${name} PRIVATE ${ARGN})
endfunction()

headrace_torch_headers(torch_pch
  <torch/types.h> <torch/utils.h> <torch/csrc/autograd/custom_function.h>)
headrace_torch_headers(modules_pch <torch/torch.h>)
if(HEADRACE_TESTS)
  find_package(GTest REQUIRED)
  headrace_torch_headers(torch_tests_pch
    <torch/types.h> <torch/utils.h> <torch/csrc/autograd/custom_function.h> <gmock/gmock.h> <gtest/gtest.h>)
  target_link_libraries(headrace_torch_tests_pch PRIVATE GTest::gmock)
endif()

# The sources of a target include torch's headers; with MODULES those of torch::nn too, with TESTS GoogleTest's.
function(headrace_uses_torch target)
  if("MODULES" IN_LIST ARGN)
    target_precompile_headers(${target} REUSE_FROM headrace_modules_pch)
  elseif("TESTS" IN_LIST ARGN)
    target_precompile_headers(${target} REUSE_FROM headrace_torch_tests_pch)
  else()
    target_precompile_headers(${target} REUSE_FROM headrace_torch_pch)
  endif()
endfunction()

# Sources of a target that include CUDA's own headers, and those of its sources that ask whether they are there
# (HEADRACE_CUDA): nothing in builds without them.
function(headrace_cuda_sources target)
  cmake_parse_arguments(ARG "" "" "SRCS;ASKING" ${ARGN})
  if(HEADRACE_CUDA_INCLUDE)
    target_sources(${target} PRIVATE ${ARG_SRCS})
    set_property(SOURCE ${ARG_SRCS} ${ARG_ASKING} APPEND PROPERTY COMPILE_DEFINITIONS HEADRACE_CUDA)
    foreach(folder IN LISTS HEADRACE_CUDA_INCLUDE)  # after torch's own, so that nothing of torch is shadowed
      set_property(SOURCE ${ARG_SRCS} APPEND PROPERTY COMPILE_OPTIONS -idirafter ${folder})
    endforeach()
  endif()
endfunction()
