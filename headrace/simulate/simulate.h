// Runs a schedule on paper: when would each action start and end, and how much memory is held, at
// given costs.
//
// Semantics: a rank does its list in order. An action starts at the later of the end of the action
// before it on its rank and, for each thing it depends on, that thing's end plus the transfer if it
// is on another rank. A transfer takes latency + bytes / bandwidth; it does not occupy the ranks,
// and transfers do not queue. An overlapped pair starts when both can and ends as one.
//
// A compute-only schedule is taken as if every receive were posted in time. On a lowered one the
// bytes flow once the receive is posted (latency runs from the send). With transfers_block, a send
// and its receive occupy both ranks, from the time that both have come to them; a compute-only
// schedule is lowered first, with paired receives (lower.h). Where the lists hold none, updates and
// reductions with a cost come at the end of each rank.
//
// Deterministic. Throws Error where the schedule cannot run, naming who waits for whom. Linear in
// the number of actions.
#pragma once

#include <vector>

#include "headrace/schedule/costs.h"
#include "headrace/schedule/schedule.h"
#include "headrace/timeline/timeline.h"

namespace headrace {

struct Simulation {
  Timeline timeline;
  // For each rank, in the unit of Costs::memory_*, sampled after each action.
  std::vector<double> peak_memory;
};

Simulation simulate(const Schedule& schedule, const Costs& costs);

// The same run without its timeline, in half the time, for who compares many schedules.
struct Totals {
  double makespan = 0;
  double cost = 0;  // of the longest rank; see Metrics
  std::vector<double> peak_memory;
};

Totals simulate_totals(const Schedule& schedule, const Costs& costs);

}  // namespace headrace
