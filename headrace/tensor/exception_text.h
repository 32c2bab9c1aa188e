// What an exception says, for a person. libtorch's carry a C++ backtrace of some forty lines in
// their what(): wherever the text of an exception that may be libtorch's is shown or passed on, it
// is this one.
#pragma once

#include <exception>
#include <string>

namespace headrace {

// Of libtorch's exceptions one line without the backtrace; of all others failure_text
// (available_memory.h).
std::string text_of(const std::exception& error);

}  // namespace headrace
