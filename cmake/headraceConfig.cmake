# find_package(headrace): the layers as headrace::pipe, headrace::train, …; each brings those it is built on. Torch
# is found as Torch.cmake says, by HEADRACE_TORCH for one.
include(CMakeFindDependencyMacro)
find_dependency(tomlplusplus)
include(${CMAKE_CURRENT_LIST_DIR}/Torch.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/headraceTargets.cmake)
