// What an exception says, for a person. libtorch's carry a C++ backtrace of some forty lines in
// their what(): wherever the text of an exception that may be libtorch's is shown or passed on, it
// is this one.
#pragma once

#include <exception>
#include <string>

#include "headrace/base/error.h"

namespace headrace {

// Of libtorch's exceptions one line without the backtrace; of all others failure_text
// (available_memory.h).
std::string text_of(const std::exception& error);

// Whether it says that there was no memory.
bool is_of_memory(const std::exception& error);

// There was no memory for a tensor.
class MemoryError : public Error {
 public:
  using Error::Error;
};

// An operation was to give the same bits each time and has no way to.
class DeterminismError : public Error {
 public:
  using Error::Error;
};

// Throws what it was as an Error of ours: one of those above, where it is one.
[[noreturn]] void rethrow(const std::exception& error, const std::string& where);

}  // namespace headrace
