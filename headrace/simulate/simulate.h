// Runs a schedule on paper: when would each action start and end, and how much memory is held, at
// given costs.
//
// Semantics: a rank does its list in order. An action starts at the later of the end of the action
// before it on its rank and, for each thing it depends on, that thing's end plus the transfer if it
// is on another rank. A transfer takes latency + bytes / bandwidth and does not occupy the ranks
// unless transfers_block. A compute-only schedule is taken as if lowered with transfers that never
// queue; a lowered one pays for its sends and receives where they stand. Deterministic. Throws
// Error where the schedule cannot run, naming who waits for whom. Linear in the number of actions.
#pragma once

#include <vector>

#include "headrace/schedule/costs.h"
#include "headrace/schedule/schedule.h"
#include "headrace/timeline/timeline.h"

namespace headrace {

struct Simulation {
  Timeline timeline;
  std::vector<double>
      peak_memory;  // for each rank, in the unit of Costs::memory_*, sampled after each action
};

Simulation simulate(const Schedule& schedule, const Costs& costs);

}  // namespace headrace
