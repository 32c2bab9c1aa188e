#include "headrace/schedule/placement.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {

std::vector<int> Placement::stages_of(int rank) const {
  std::vector<int> held;
  for (int stage = 0; stage < stages(); ++stage) {
    if (std::ranges::count(owners[static_cast<std::size_t>(stage)], rank) > 0)
      held.push_back(stage);
  }
  return held;
}

Placement linear_placement(int ranks) {
  return loop_placement(ranks, 1);
}

Placement loop_placement(int ranks, int stages_per_rank) {
  check_usage(ranks >= 1, "ranks is ", ranks, "; it must be 1 or more");
  check_usage(stages_per_rank >= 1, "stages_per_rank is ", stages_per_rank,
              "; it must be 1 or more");
  Placement placement = {.ranks = ranks};
  for (int stage = 0; stage < ranks * stages_per_rank; ++stage)
    placement.owners.push_back({stage % ranks});
  return placement;
}

Placement v_placement(int ranks) {
  Placement placement = loop_placement(ranks, 1);
  for (int rank = ranks - 1; rank >= 0; --rank) placement.owners.push_back({rank});
  return placement;
}

Placement bidirectional_placement(int ranks) {
  Placement placement = loop_placement(ranks, 1);
  for (int stage = 0; stage < ranks; ++stage)
    placement.owners[static_cast<std::size_t>(stage)].push_back(ranks - 1 - stage);
  return placement;
}

}  // namespace headrace
