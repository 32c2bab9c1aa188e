# cmake -DROOT=… -P CheckLayers.cmake: fails where a folder of headrace/ includes one that it must not.
#
# The order of the folders is the direction of data: a folder includes only those to its left. transport,
# model, data and checkpoint stand side by side and do not include one another.

set(layers
  "base" "tokenizer" "schedule" "timeline" "simulate" "plan" "launch" "tensor" "transport,model,data,checkpoint" "runtime"
  "train,pipe" "cli")

set(place 0)
foreach(group IN LISTS layers)
  string(REPLACE "," ";" folders "${group}")
  foreach(folder IN LISTS folders)
    set(place_of_${folder} ${place})
  endforeach()
  math(EXPR place "${place} + 1")
endforeach()

set(faults "")
file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/headrace/*.h ${ROOT}/headrace/*.cc ${ROOT}/cli/*.h ${ROOT}/cli/*.cc)
foreach(file IN LISTS files)
  string(REGEX REPLACE "^headrace/" "" path ${file})
  string(REGEX MATCH "^[a-z0-9_]+/" from "${path}")
  string(REPLACE "/" "" from "${from}")
  if(from STREQUAL "")
    continue()  # headrace/pipe.h, the whole library's front, may include all
  endif()
  if(NOT DEFINED place_of_${from})
    list(APPEND faults "${file}: folder ${from} has no place in cmake/CheckLayers.cmake")
    continue()
  endif()
  file(STRINGS ${ROOT}/${file} includes REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"](headrace|cli)/")
  foreach(line IN LISTS includes)
    if(NOT line MATCHES "[<\"](headrace/)?([a-z0-9_]+)/")
      continue()
    endif()
    set(to ${CMAKE_MATCH_2})
    if(to STREQUAL from OR to STREQUAL "headrace")
      continue()  # the folder's own, or headrace/pipe.h
    endif()
    if(NOT DEFINED place_of_${to} OR NOT place_of_${to} LESS place_of_${from})
      string(STRIP "${line}" line)
      list(APPEND faults "${file}: ${line} does not point left")
    endif()
  endforeach()
endforeach()

list(LENGTH files count)
if(faults)
  string(REPLACE ";" "\n  " faults "${faults}")
  message(FATAL_ERROR "layers:\n  ${faults}")
endif()
message(STATUS "layers: ${count} files, all includes point left")
