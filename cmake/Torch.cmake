# headrace_torch: libtorch as an imported target, made from the files that every Torch has, wheel or archive, CPU or CUDA.
# Torch's own CMake files are not used: with a CUDA build they stop unless a CUDA toolkit is installed, which nothing here
# needs. Also installed, for headraceConfig.cmake.
#
# HEADRACE_TORCH, as a CMake or an environment variable, says where Torch is: its folder (the one that holds lib and
# include), or an environment that Torch is installed in. Without it: the entries of CMAKE_PREFIX_PATH, the project's .venv,
# the Python on the PATH.
#
# Sets HEADRACE_TORCH_FOLDER and HEADRACE_TORCH_VERSION; HEADRACE_TORCH_CUDA, the libraries of a CUDA build (empty without);
# and HEADRACE_CUDA_INCLUDE, the folders of the headers that sources for NCCL need (empty without them).

set(HEADRACE_TORCH "" CACHE PATH "Torch's folder, or an environment that Torch is installed in")
set(HEADRACE_CUDA_REQUIRED OFF CACHE BOOL "Stop unless Torch is a CUDA build and the headers for NCCL are there")
set(headrace_torch_oldest 2.11)

# The folder of a Torch in or around a path; empty for none.
function(headrace_torch_in path result)
  file(GLOB inside "${path}/lib/python3*/site-packages/torch")
  foreach(folder IN ITEMS "${path}" "${path}/torch" ${inside} "${path}/../.." "${path}/../../..")
    if(EXISTS "${folder}/lib/libtorch.so" AND EXISTS "${folder}/include/torch/csrc/api/include/torch/torch.h")
      file(REAL_PATH "${folder}" folder)
      set(${result} "${folder}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

# As Python finds it, without the seconds of importing it.
function(headrace_torch_of_python result)
  find_program(HEADRACE_PYTHON NAMES python3 python)
  mark_as_advanced(HEADRACE_PYTHON)
  set(${result} "" PARENT_SCOPE)
  if(HEADRACE_PYTHON)
    execute_process(
      COMMAND ${HEADRACE_PYTHON} -c
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE found ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
    headrace_torch_in("${found}" found)
    set(${result} "${found}" PARENT_SCOPE)
  endif()
endfunction()

# The folders, of those given, that hold the headers; none of them where one header is missing, and then its name.
function(headrace_headers headers folders found missing)
  set(holding "")
  set(lacking "")
  foreach(header IN LISTS headers)
    set(here "")
    foreach(folder IN LISTS folders)
      if(NOT here AND EXISTS ${folder}/${header})
        set(here ${folder})
      endif()
    endforeach()
    if(here)
      list(APPEND holding ${here})
    else()
      list(APPEND lacking ${header})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES holding)
  if(lacking)
    set(holding "")
  endif()
  set(${found} "${holding}" PARENT_SCOPE)
  list(JOIN lacking ", " lacking)
  set(${missing} "${lacking}" PARENT_SCOPE)
endfunction()

set(HEADRACE_TORCH_FOLDER "")
set(headrace_given ${HEADRACE_TORCH})
if(NOT headrace_given)
  set(headrace_given $ENV{HEADRACE_TORCH})
endif()
if(headrace_given)
  headrace_torch_in("${headrace_given}" HEADRACE_TORCH_FOLDER)
  if(NOT HEADRACE_TORCH_FOLDER)
    message(FATAL_ERROR "HEADRACE_TORCH=${headrace_given} is neither Torch's folder (one with lib/libtorch.so and include) "
      "nor an environment that Torch is installed in")
  endif()
else()
  foreach(path IN LISTS CMAKE_PREFIX_PATH ITEMS ${CMAKE_SOURCE_DIR}/.venv)
    if(NOT HEADRACE_TORCH_FOLDER)
      headrace_torch_in("${path}" HEADRACE_TORCH_FOLDER)
    endif()
  endforeach()
  if(NOT HEADRACE_TORCH_FOLDER)
    headrace_torch_of_python(HEADRACE_TORCH_FOLDER)
  endif()
  if(NOT HEADRACE_TORCH_FOLDER)
    message(FATAL_ERROR "no Torch found; install it (pip install torch), or set HEADRACE_TORCH to Torch's folder or to an "
      "environment that it is installed in")
  endif()
endif()

set(headrace_version "")
foreach(file IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(NOT headrace_version AND EXISTS ${HEADRACE_TORCH_FOLDER}/include/${file})
    file(STRINGS ${HEADRACE_TORCH_FOLDER}/include/${file} headrace_lines
      REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    string(REGEX MATCHALL "[0-9]+" headrace_version "${headrace_lines}")
    list(JOIN headrace_version . headrace_version)
  endif()
endforeach()
set(HEADRACE_TORCH_VERSION ${headrace_version})
if(NOT HEADRACE_TORCH_VERSION OR HEADRACE_TORCH_VERSION VERSION_LESS headrace_torch_oldest)
  message(FATAL_ERROR "the Torch in ${HEADRACE_TORCH_FOLDER} is '${HEADRACE_TORCH_VERSION}', and Headrace needs "
    "${headrace_torch_oldest} or newer")
endif()

# A CUDA build: its libraries, and the headers that Torch's own headers for CUDA include. They lie in packages beside the
# wheel, or in a toolkit where there is one.
set(HEADRACE_TORCH_CUDA "")
set(HEADRACE_CUDA_INCLUDE "")
if(EXISTS ${HEADRACE_TORCH_FOLDER}/lib/libtorch_cuda.so)
  set(HEADRACE_TORCH_CUDA ${HEADRACE_TORCH_FOLDER}/lib/libtorch_cuda.so ${HEADRACE_TORCH_FOLDER}/lib/libc10_cuda.so)
  file(GLOB headrace_packages ${HEADRACE_TORCH_FOLDER}/../nvidia/*/include ${HEADRACE_TORCH_FOLDER}/../nvidia/*/include/cccl)
  set(headrace_toolkit $ENV{CUDA_HOME})
  if(NOT headrace_toolkit)
    set(headrace_toolkit /usr/local/cuda)
  endif()
  # CUDA's own from one place, as they must be of one version.
  foreach(place IN ITEMS "${headrace_packages}" "${headrace_toolkit}/include;${headrace_toolkit}/include/cccl")
    if(NOT HEADRACE_CUDA_INCLUDE)
      headrace_headers("cuda_runtime_api.h;crt/host_config.h;nv/target" "${place}" HEADRACE_CUDA_INCLUDE headrace_missing)
    endif()
  endforeach()
  if(HEADRACE_CUDA_INCLUDE)
    headrace_headers("nccl.h" "${headrace_packages};${headrace_toolkit}/include;/usr/include" headrace_nccl headrace_missing)
    list(APPEND HEADRACE_CUDA_INCLUDE ${headrace_nccl})
    list(REMOVE_ITEM HEADRACE_CUDA_INCLUDE /usr/include)
  endif()
  if(headrace_missing)
    set(HEADRACE_CUDA_INCLUDE "")
    if(HEADRACE_CUDA_REQUIRED)
      set(headrace_how SEND_ERROR)
    else()
      set(headrace_how WARNING)
    endif()
    message(${headrace_how} "this Torch is a CUDA build, but the headers ${headrace_missing} are not there: tensors between GPUs will "
      "travel through the CPU, not by NCCL. Install into Torch's environment, of CUDA's version: nvidia-cuda-runtime, "
      "nvidia-cuda-crt, nvidia-cuda-cccl and nvidia-nccl-cu13 (or -cu12); then configure anew")
  endif()
endif()

if(NOT TARGET headrace_torch)
  add_library(headrace_torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(headrace_torch SYSTEM INTERFACE
    ${HEADRACE_TORCH_FOLDER}/include ${HEADRACE_TORCH_FOLDER}/include/torch/csrc/api/include)
  target_compile_features(headrace_torch INTERFACE cxx_std_20)
  # The wheel is built with c10d and Gloo but no header says so.
  target_compile_definitions(headrace_torch INTERFACE USE_DISTRIBUTED USE_C10D USE_C10D_GLOO)
  # Kernels register themselves when their library is loaded, and no symbol of theirs is asked for: the linker must not drop
  # them. One item, as CMake is free to reorder several. NVIDIA's libraries are found at run time, through the wheel's own
  # paths.
  set(headrace_lib ${HEADRACE_TORCH_FOLDER}/lib)
  set(headrace_kernels "-Wl,--push-state,--no-as-needed")
  foreach(library IN ITEMS ${headrace_lib}/libtorch_cpu.so ${HEADRACE_TORCH_CUDA})
    string(APPEND headrace_kernels ",\"${library}\"")
  endforeach()
  target_link_libraries(headrace_torch INTERFACE
    "${headrace_kernels},--pop-state" ${headrace_lib}/libtorch.so ${headrace_lib}/libtorch_cpu.so ${headrace_lib}/libc10.so
    "-Wl,--allow-shlib-undefined")
endif()
if(HEADRACE_TORCH_CUDA)
  set(headrace_kind "CUDA")
elseif(HEADRACE_CUDA_REQUIRED)
  message(FATAL_ERROR "HEADRACE_CUDA_REQUIRED is on, and the Torch in ${HEADRACE_TORCH_FOLDER} is a CPU build")
else()
  set(headrace_kind "CPU")
endif()
message(STATUS "Torch ${HEADRACE_TORCH_VERSION}, ${headrace_kind} build: ${HEADRACE_TORCH_FOLDER}")
