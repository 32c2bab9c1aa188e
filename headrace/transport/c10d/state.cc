#include "headrace/transport/c10d/state.h"

#include <algorithm>
#include <utility>

#include <time.h>

#include "headrace/tensor/exception_text.h"

namespace headrace {

double shared_clock(const RunState& state) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 +
         state.clock_offset;
}

void RunState::fail(std::exception_ptr why_failed) {
  const std::lock_guard lock(mutex);
  if (!own_failure) own_failure = std::move(why_failed);
  changed.notify_all();
}

std::string brief(const std::exception& error) {
  std::string text = text_of(error);
  // Gloo begins with its source position in brackets and ends with advice.
  if (text.starts_with('[')) text.erase(0, std::min(text.size(), text.find(']') + 2));
  text.erase(std::min(text.size(), text.find(". This is typically caused")));
  return text;
}

}  // namespace headrace
