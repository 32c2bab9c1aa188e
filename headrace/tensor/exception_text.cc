#include "headrace/tensor/exception_text.h"

#include <charconv>
#include <cstddef>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>

#include <c10/util/Exception.h>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

// What libtorch writes between a message and its backtrace, also where it hands the text of one
// exception on in another of a standard type.
constexpr std::string_view kBacktrace = "\nException raised from ";

constexpr std::string_view kNoDeterministic = " does not have a deterministic implementation";
constexpr std::string_view kNoHostMemory =
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate ";

bool says(const std::exception& error, std::string_view sign) {
  return std::string_view(error.what()).find(sign) != std::string_view::npos;
}

std::string one_line(const std::string& text) {
  std::string line;
  for (const std::string& part : split_text(text, '\n')) {
    const std::string_view words = trim(part);
    if (!words.empty()) line += cat(line.empty() ? "" : " ", words);
  }
  return line;
}

// What stands between a sign and the next " of which", " is" or ".".
std::string after(const std::string& text, std::string_view sign) {
  const std::size_t found = text.find(sign);
  if (found == std::string::npos) return "";
  const std::size_t begin = found + sign.size();
  const std::size_t space = text.find(' ', begin);
  if (space == std::string::npos) return "";
  std::size_t end = text.find_first_of(" .,", space + 1);
  if (end == std::string::npos) end = text.size();
  return text.substr(begin, end - begin);
}

// A device's allocator speaks at length of its environment variables.
std::string of_device_memory(const std::string& text) {
  const std::string wanted = after(text, "Tried to allocate ");
  if (wanted.empty()) return text;
  const std::string total = after(text, "total capacity of "), free = after(text, " of which "),
                    held = after(text, "Of the allocated memory ");
  return cat("this rank's device has no memory left for a tensor of ", wanted,
             total.empty()
                 ? ""
                 : cat(": of its ", total, free.empty() ? "" : cat(", ", free, " are free"),
                       held.empty() ? "" : cat(", and ", held, " hold this rank's tensors")));
}

std::string of_determinism(const std::string& text) {
  const std::size_t sign = text.find(kNoDeterministic);
  return cat(text.substr(0, sign), " has no way to give the same bits each time");
}

// The CPU's allocator speaks of its source line and an error code.
std::string of_memory(const std::string& text) {
  const std::size_t sign = text.find(kNoHostMemory);
  if (sign == std::string::npos) return text;
  double bytes = 0;
  const char* const number = text.data() + sign + kNoHostMemory.size();
  std::from_chars(number, text.data() + text.size(), bytes);
  return cat("this machine has no memory left for a tensor of ", bytes_text(bytes));
}

}  // namespace

std::string text_of(const std::exception& error) {
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) {
    const std::string text = one_line(torch_error->what_without_backtrace());
    if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr)
      return of_device_memory(text);
    return text.find(kNoDeterministic) != std::string::npos ? of_determinism(text)
                                                            : of_memory(text);
  }
  const auto* of_system = dynamic_cast<const std::system_error*>(&error);
  if (of_system != nullptr && of_system->code() == std::errc::resource_unavailable_try_again)
    return "this machine has no memory left for a thread, or as many as it allows";
  const std::string text = failure_text(error);
  const std::size_t backtrace = text.find(kBacktrace);
  return backtrace == std::string::npos ? text : one_line(text.substr(0, backtrace));
}

bool is_of_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr || says(error, kNoHostMemory) ||
         dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         dynamic_cast<const MemoryError*>(&error) != nullptr;
}

void rethrow(const std::exception& error, const std::string& where) {
  const std::string text = where + text_of(error);
  if (is_of_memory(error)) throw MemoryError(text);
  if (says(error, kNoDeterministic)) throw DeterminismError(text);
  throw Error(text);
}

}  // namespace headrace
