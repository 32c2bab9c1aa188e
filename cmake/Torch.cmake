# libtorch from the wheel: CMAKE_PREFIX_PATH names its share/cmake (the run script sets it from the virtual environment).

find_package(Torch REQUIRED)
if(Torch_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "Torch ${Torch_VERSION} is too old: Headrace needs 2.11 or newer")
endif()

add_library(headrace_torch INTERFACE)
target_include_directories(headrace_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_link_libraries(headrace_torch INTERFACE ${TORCH_LIBRARIES})
# The wheel is built with c10d and Gloo but its CMake files do not say so.
target_compile_definitions(headrace_torch INTERFACE USE_DISTRIBUTED USE_C10D USE_C10D_GLOO)

# A torch source costs about 25 s to compile without this precompiled header and 8 s with it.
file(WRITE ${PROJECT_BINARY_DIR}/torch_pch.cc "")
add_library(headrace_torch_pch STATIC ${PROJECT_BINARY_DIR}/torch_pch.cc)
target_link_libraries(headrace_torch_pch PUBLIC headrace_torch PRIVATE headrace_settings)
target_precompile_headers(headrace_torch_pch PRIVATE <torch/torch.h>)
