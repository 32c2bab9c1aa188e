#include "headrace/tensor/exception_text.h"

#include <cstddef>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include <c10/util/Exception.h>

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

}  // namespace

std::string text_of(const std::exception& error) {
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error))
    return one_line(torch_error->what_without_backtrace());
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr)
    return "this machine has no memory left (std::bad_alloc)";
  const std::string text = error.what();
  const std::size_t backtrace = text.find(kBacktrace);
  return backtrace == std::string::npos ? text : one_line(text.substr(0, backtrace));
}

}  // namespace headrace
