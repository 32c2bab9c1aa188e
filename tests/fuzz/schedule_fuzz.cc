// Any bytes as a schedule file. What is accepted is written again so that it reads the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "headrace/base/error.h"
#include "headrace/schedule/schedule.h"
#include "tests/fuzz/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const headrace::Schedule schedule = headrace::parse_csv(headrace::text_of(data, size), "fuzz");
    const std::string text = headrace::to_csv(schedule);
    const headrace::Schedule again = headrace::parse_csv(text, "fuzz");
    headrace::require(again.ranks == schedule.ranks && headrace::to_csv(again) == text);
  } catch (const headrace::Error&) {  // refused
  }
  return 0;
}
