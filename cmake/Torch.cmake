# libtorch from the wheel: CMAKE_PREFIX_PATH names its share/cmake (the run script sets it from the virtual environment).
# Also installed, for headraceConfig.cmake.

find_package(Torch REQUIRED)
if(Torch_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "Torch ${Torch_VERSION} is too old: Headrace needs 2.11 or newer")
endif()

# Imported, so that our exported libraries name it and the user's own Torch stands behind it.
if(NOT TARGET headrace_torch)
  add_library(headrace_torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(headrace_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(headrace_torch INTERFACE ${TORCH_LIBRARIES})
  # The wheel is built with c10d and Gloo but its CMake files do not say so.
  target_compile_definitions(headrace_torch INTERFACE USE_DISTRIBUTED USE_C10D USE_C10D_GLOO)
endif()
