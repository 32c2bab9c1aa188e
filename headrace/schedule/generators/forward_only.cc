// Forwards alone, for evaluation. P = 3, M = 4:
//
//   0 |F0 F1 F2 F3
//   1 |.  F0 F1 F2 F3
//   2 |.  .  F0 F1 F2 F3
//
// A rank with several stages takes them in rounds of as many microbatches as there are ranks, as
// interleaved 1F1B does, so that its later stages start before its first has seen all.
#include <algorithm>
#include <cstddef>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/placement.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

Schedule forward_only(const Placement& placement, int microbatches) {
  check_usage(microbatches >= 1, "microbatches is ", microbatches, "; it must be 1 or more");
  Schedule schedule = {
      .name = "forward-only", .placement = placement, .microbatches = microbatches};
  schedule.ranks.resize(static_cast<std::size_t>(placement.ranks));
  for (int first = 0; first < microbatches; first += placement.ranks) {
    const int end = std::min(first + placement.ranks, microbatches);
    for (int stage = 0; stage < placement.stages(); ++stage) {
      for (int m = first; m < end; ++m)
        schedule.ranks[static_cast<std::size_t>(placement.rank(stage, m))].push_back(
            {.kind = Kind::Forward, .stage = stage, .microbatch = m});
    }
  }
  return schedule;
}

}  // namespace headrace
