#include "headrace/runtime/stopwatch.h"

namespace headrace {

Instant Stopwatch::take() const {
  if (!is_of_device()) return {transport_.clock(), {}};
  return {0, Mark::timed(device_)};
}

void Stopwatch::read() {
  if (!is_of_device()) return;
  last_.mark = Mark::timed(device_);
  while (!last_.mark.reached()) {  // at once, as there is nothing before it
  }
  last_.seconds = transport_.clock();
}

double Stopwatch::seconds(const Instant& instant) const {
  return instant.mark.on_device() ? last_.seconds - instant.mark.seconds_until(last_.mark)
                                  : instant.seconds;
}

}  // namespace headrace
