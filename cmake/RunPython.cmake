# cmake -DSOURCE=… -DSCRIPT=… -DARGUMENT=… -P RunPython.cmake: runs a test script by the Python that has torch:
# HEADRACE_PYTHON of the environment, or the one in .venv. Says "skipped: …" where there is none.

set(python "$ENV{HEADRACE_PYTHON}")
if(python STREQUAL "")
  set(python ${SOURCE}/.venv/bin/python)
endif()
if(NOT EXISTS ${python})
  message("skipped: no ${python}; set HEADRACE_PYTHON to a Python with torch")
  return()
endif()
execute_process(COMMAND ${python} ${SCRIPT} ${ARGUMENT} RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${SCRIPT} failed: ${result}")
endif()
