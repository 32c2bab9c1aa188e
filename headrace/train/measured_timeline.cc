#include "headrace/train/measured_timeline.h"

#include <algorithm>

#include "headrace/train/agreement.h"
#include "headrace/transport/all_gather.h"

namespace headrace {

Timeline gather_timeline(Transport& transport,
                         const std::vector<Event>& events,
                         const std::string& name) {
  Timeline timeline{name, true, all_gather_of(transport, events, kTimeline), 0};
  double worst = 0, second = 0;  // errors against rank 0's clock
  for (const auto& error : all_gather(transport, {transport.clock_error()}, kTimeline)) {
    second = std::max(second, std::min(worst, error[0]));
    worst = std::max(worst, error[0]);
  }
  timeline.clock_error = worst + second;
  return timeline;
}

}  // namespace headrace
