# cmake -DROOT=… -P CheckMessages.cmake: fails where a text left of headrace/train names a key of train's file.
#
# A layer speaks of its own nouns ("ranks is 0"); who knows the settings puts the section before them
# (headrace/train/config/refusals.h). The keys are those of the table in headrace/train/config/keys.cc.

cmake_minimum_required(VERSION 3.25)

file(STRINGS ${ROOT}/headrace/train/config/keys.cc rows REGEX "^ +(model|data|train|pipeline|checkpoint)\\(\"[a-z0-9_]+\"")
set(names "")
foreach(row IN LISTS rows)
  string(REGEX MATCH "(model|data|train|pipeline|checkpoint)\\(\"([a-z0-9_]+)\"" _ "${row}")
  list(APPEND names "${CMAKE_MATCH_1}[.]${CMAKE_MATCH_2}")
endforeach()
if(NOT names)
  message(FATAL_ERROR "messages: no keys found in headrace/train/config/keys.cc")
endif()
list(JOIN names "|" any)

set(faults "")
set(count 0)
file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/headrace/*.h ${ROOT}/headrace/*.cc)
foreach(file IN LISTS files)
  if(file MATCHES "^headrace/train/")
    continue()
  endif()
  math(EXPR count "${count} + 1")
  file(STRINGS ${ROOT}/${file} lines REGEX "(${any})")
  foreach(line IN LISTS lines)
    if(line MATCHES "^ *//")
      continue()
    endif()
    string(REGEX MATCHALL "\"[^\"]*\"" literals "${line}")
    if(literals MATCHES "(${any})")
      string(STRIP "${line}" line)
      string(REPLACE ";" "," line "${line}")  # which would part the list
      list(APPEND faults "${file}: ${line} names a key of the configuration")
    endif()
  endforeach()
endforeach()

if(faults)
  list(JOIN faults "\n  " faults)
  message(FATAL_ERROR "messages:\n  ${faults}")
endif()
message(STATUS "messages: ${count} files name no key of the configuration")
