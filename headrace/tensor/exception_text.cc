#include "headrace/tensor/exception_text.h"

#include <charconv>
#include <cstddef>
#include <exception>
#include <string>
#include <string_view>

#include <c10/util/Exception.h>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

// What libtorch writes between a message and its backtrace, also where it hands the text of one
// exception on in another of a standard type.
constexpr std::string_view kBacktrace = "\nException raised from ";

std::string one_line(const std::string& text) {
  std::string line;
  for (const std::string& part : split_text(text, '\n')) {
    const std::string_view words = trim(part);
    if (!words.empty()) line += cat(line.empty() ? "" : " ", words);
  }
  return line;
}

// The allocator speaks of its source line and an error code.
std::string of_memory(const std::string& text) {
  constexpr std::string_view kSign =
      "DefaultCPUAllocator: can't allocate memory: you tried to allocate ";
  const std::size_t sign = text.find(kSign);
  if (sign == std::string::npos) return text;
  double bytes = 0;
  const char* const number = text.data() + sign + kSign.size();
  std::from_chars(number, text.data() + text.size(), bytes);
  return cat("this machine has no memory left for a tensor of ", bytes_text(bytes));
}

}  // namespace

std::string text_of(const std::exception& error) {
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error))
    return of_memory(one_line(torch_error->what_without_backtrace()));
  const std::string text = failure_text(error);
  const std::size_t backtrace = text.find(kBacktrace);
  return backtrace == std::string::npos ? text : one_line(text.substr(0, backtrace));
}

}  // namespace headrace
