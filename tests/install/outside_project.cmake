# cmake -DBUILD=… -DPROJECT=… -DTORCH=… -DWORK=… -P outside_project.cmake
file(REMOVE_RECURSE ${WORK})
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}: ${result}\n${out}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/installed)
run(${CMAKE_COMMAND} -S ${PROJECT} -B ${WORK}/build -G Ninja "-DCMAKE_PREFIX_PATH=${WORK}/installed"
  -DHEADRACE_TORCH=${TORCH} -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/outside)
# The installed program, and the one behind it that needs libtorch.
run(${WORK}/installed/bin/headrace show)
run(${WORK}/installed/bin/headrace train --help)
