// GPipe: all forwards, then all backwards (Huang et al., GPipe, NeurIPS 2019). P = 4, M = 4:
//
//   0 |F0 F1 F2 F3 .  .  .  .  .  .  B0 B1 B2 B3
//   1 |.  F0 F1 F2 F3 .  .  .  .  B0 B1 B2 B3
//   2 |.  .  F0 F1 F2 F3 .  .  B0 B1 B2 B3
//   3 |.  .  .  F0 F1 F2 F3 B0 B1 B2 B3
//
// Bubble (P-1)/(M+P-1); every rank holds all M microbatches at its peak. The paper leaves the order
// of the backwards open; ours ascends, so that gradients add up in the order of every other
// schedule.
#include <cstddef>

#include "headrace/schedule/action.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/placement.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

Schedule gpipe(int ranks, int microbatches) {
  Schedule schedule = forward_only(linear_placement(ranks), microbatches);
  schedule.name = "gpipe";
  for (int rank = 0; rank < ranks; ++rank) {
    auto& actions = schedule.ranks[static_cast<std::size_t>(rank)];
    for (int m = 0; m < microbatches; ++m)
      actions.push_back({.kind = Kind::Backward, .stage = rank, .microbatch = m});
  }
  return schedule;
}

}  // namespace headrace
