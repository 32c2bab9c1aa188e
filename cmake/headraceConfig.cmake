# find_package(headrace): the layers as headrace::pipe, headrace::train, …; each brings those it is built on. Torch must be
# found too: CMAKE_PREFIX_PATH names its share/cmake.
include(CMakeFindDependencyMacro)
find_dependency(tomlplusplus)
include(${CMAKE_CURRENT_LIST_DIR}/Torch.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/headraceTargets.cmake)
