# cmake -DTORCH_CMAKE=…/cmake/Torch.cmake -DWORK=… -P torch_target.cmake: where Torch is found, and what the target is made
# of, for every way that people have it. The Torches here are empty files in the folders of the real ones.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${WORK})

function(make_torch folder version)
  foreach(library IN ITEMS libtorch.so libtorch_cpu.so libc10.so)
    file(WRITE ${folder}/lib/${library} "")
  endforeach()
  file(WRITE ${folder}/include/torch/csrc/api/include/torch/torch.h "")
  file(MAKE_DIRECTORY ${folder}/share/cmake/Torch)
  string(REPLACE . ";" numbers ${version})
  list(GET numbers 0 major)
  list(GET numbers 1 minor)
  list(GET numbers 2 patch)
  file(WRITE ${folder}/include/torch/headeronly/version.h "#define TORCH_VERSION_MAJOR ${major}\n"
    "#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n#define TORCH_VERSION_ABI_TAG 0\n")
endfunction()
function(make_cuda_torch site headers)
  make_torch(${site}/torch 2.13.0)
  file(WRITE ${site}/torch/lib/libtorch_cuda.so "")
  file(WRITE ${site}/torch/lib/libc10_cuda.so "")
  foreach(header IN LISTS headers)
    file(WRITE ${site}/nvidia/${header} "")
  endforeach()
endfunction()

file(WRITE ${WORK}/project/CMakeLists.txt [[
cmake_minimum_required(VERSION 3.25)
project(finds_torch LANGUAGES CXX)
include(${TORCH_CMAKE})
get_target_property(libraries headrace_torch INTERFACE_LINK_LIBRARIES)
message(STATUS "FOUND=${HEADRACE_TORCH_FOLDER} VERSION=${HEADRACE_TORCH_VERSION} HEADERS=${HEADRACE_CUDA_INCLUDE}= LINK=${libraries}=")
]])

# configure(CASE SUCCEEDS|FAILS EXPECT regular expressions … ARGUMENTS of cmake …)
function(configure case outcome)
  cmake_parse_arguments(ARG "" "" "EXPECT;ARGUMENTS" ${ARGN})
  # No Torch and no CUDA of the machine's own may be found.
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env --unset=HEADRACE_TORCH CUDA_HOME=${WORK}/toolkit ${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/build/${case}
      -DTORCH_CMAKE=${TORCH_CMAKE} -DCMAKE_CXX_COMPILER_WORKS=1 -DHEADRACE_PYTHON=false -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF
      ${ARG_ARGUMENTS}
    RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE err)
  string(APPEND out ${err})
  string(REGEX REPLACE "[ \n]+" " " out "${out}")
  if((outcome STREQUAL SUCCEEDS AND NOT result EQUAL 0) OR (outcome STREQUAL FAILS AND result EQUAL 0))
    message(FATAL_ERROR "${case}: ended with ${result}, and should have been one that ${outcome}\n${out}")
  endif()
  foreach(expected IN LISTS ARG_EXPECT)
    if(NOT out MATCHES "${expected}")
      message(FATAL_ERROR "${case}: nothing matches '${expected}' in\n${out}")
    endif()
  endforeach()
endfunction()

set(all_headers cu13/include/cuda_runtime_api.h cu13/include/crt/host_config.h cu13/include/cccl/nv/target nccl/include/nccl.h)
set(environment ${WORK}/environment/lib/python3.12/site-packages)
make_torch(${environment}/torch 2.11.0)
make_torch(${WORK}/libtorch 2.14.1)
make_torch(${WORK}/old 2.10.2)

configure(folder SUCCEEDS ARGUMENTS -DHEADRACE_TORCH=${WORK}/libtorch
  EXPECT "FOUND=${WORK}/libtorch VERSION=2.14.1" "--no-as-needed,.[^ ]*/lib/libtorch_cpu.so.,--pop-state" "HEADERS== ")
configure(environment SUCCEEDS ARGUMENTS -DHEADRACE_TORCH=${WORK}/environment
  EXPECT "FOUND=${environment}/torch VERSION=2.11.0")
configure(prefix_path SUCCEEDS ARGUMENTS -DHEADRACE_TORCH=
  -DCMAKE_PREFIX_PATH=${environment}/torch/share/cmake EXPECT "FOUND=${environment}/torch ")
configure(old FAILS ARGUMENTS -DHEADRACE_TORCH=${WORK}/old EXPECT "old is '2.10.2', and Headrace needs 2.11 or newer")
configure(wrong FAILS ARGUMENTS -DHEADRACE_TORCH=${WORK}/project EXPECT "HEADRACE_TORCH=${WORK}/project is neither")
configure(none FAILS EXPECT "no Torch found; install it .pip install torch., or set HEADRACE_TORCH")
configure(cpu_but_cuda_is_required FAILS ARGUMENTS -DHEADRACE_TORCH=${WORK}/libtorch -DHEADRACE_CUDA_REQUIRED=ON
  EXPECT "is a CPU build")

make_cuda_torch(${WORK}/cuda/lib/python3.11/site-packages "${all_headers}")
configure(cuda SUCCEEDS ARGUMENTS -DHEADRACE_TORCH=${WORK}/cuda -DHEADRACE_CUDA_REQUIRED=ON
  EXPECT "libtorch_cuda.so.,[^ ]*libc10_cuda.so.,--pop-state" "nvidia/cu13/include;[^ ]*cu13/include/cccl;[^ ]*nccl/include=")
make_cuda_torch(${WORK}/bare/lib/python3.11/site-packages "nccl/include/nccl.h")
configure(cuda_without_headers SUCCEEDS ARGUMENTS -DHEADRACE_TORCH=${WORK}/bare
  EXPECT "headers cuda_runtime_api.h, crt/host_config.h, nv/target are not there" "HEADERS== " "libtorch_cuda.so")
configure(cuda_headers_are_required FAILS ARGUMENTS -DHEADRACE_TORCH=${WORK}/bare -DHEADRACE_CUDA_REQUIRED=ON
  EXPECT "are not there")
foreach(header IN ITEMS cuda_runtime_api.h crt/host_config.h nv/target)
  file(WRITE ${WORK}/toolkit/include/${header} "")
endforeach()
configure(cuda_toolkit SUCCEEDS ARGUMENTS -DHEADRACE_TORCH=${WORK}/bare -DHEADRACE_CUDA_REQUIRED=ON
  EXPECT "HEADERS=${WORK}/toolkit/include;[^ ]*nccl/include=")

make_torch(${WORK}/project/.venv/lib/python3.11/site-packages/torch 2.12.0)
configure(own_environment SUCCEEDS EXPECT "FOUND=${WORK}/project/.venv/lib/python3.11/site-packages/torch VERSION=2.12.0")
