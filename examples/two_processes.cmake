# cmake -DPROGRAM=… -P two_processes.cmake: starts two ranks of a program, as a launcher would.
string(RANDOM LENGTH 4 ALPHABET 0123456789 digits)
math(EXPR port "20000 + ${digits} % 10000")
set(ENV{MASTER_ADDR} 127.0.0.1)
set(ENV{MASTER_PORT} ${port})
set(ENV{WORLD_SIZE} 2)
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env RANK=1 ${PROGRAM}
  COMMAND ${CMAKE_COMMAND} -E env RANK=0 ${PROGRAM}
  RESULTS_VARIABLE results)
if(NOT results STREQUAL "0;0")
  message(FATAL_ERROR "the ranks ended with ${results}")
endif()
