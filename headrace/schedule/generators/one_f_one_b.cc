// 1F1B: after a warm-up of P-1-r forwards, each forward is followed by a backward, so that no rank
// holds more than P-r microbatches (PipeDream-Flush, Narayanan et al. 2021; DAPPLE, Fan et al.
// 2021). P = 4, M = 6:
//
//   0 |F0 F1 F2 F3 .  .  .  .  B0 F4 B1 F5 B2 .  B3 .  B4 .  B5
//   1 |.  F0 F1 F2 .  .  .  B0 F3 B1 F4 B2 F5 B3 .  B4 .  B5
//   2 |.  .  F0 F1 .  .  B0 F2 B1 F3 B2 F4 B3 F5 B4 .  B5
//   3 |.  .  .  F0 .  B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5
//
// Bubble (P-1)/(M+P-1), as GPipe; peak min(P-r, M) microbatches on rank r.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/placement.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

Schedule one_f_one_b(int ranks, int microbatches) {
  check_usage(microbatches >= 1, "microbatches is ", microbatches, "; it must be 1 or more");
  Schedule schedule = {
      .name = "1f1b", .placement = linear_placement(ranks), .microbatches = microbatches};
  schedule.ranks.resize(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Action>& actions = schedule.ranks[static_cast<std::size_t>(rank)];
    actions.reserve(2 * static_cast<std::size_t>(microbatches));
    const int warm_up = std::min(ranks - 1 - rank, microbatches);
    for (int m = 0; m < microbatches + warm_up; ++m) {
      if (m < microbatches)
        actions.push_back({.kind = Kind::Forward, .stage = rank, .microbatch = m});
      if (m >= warm_up)
        actions.push_back({.kind = Kind::Backward, .stage = rank, .microbatch = m - warm_up});
    }
  }
  return schedule;
}

}  // namespace headrace
