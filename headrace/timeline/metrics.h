// Where a timeline's time went, for each rank and for the whole.
#pragma once

#include <vector>

#include "headrace/timeline/timeline.h"

namespace headrace {

struct RankMetrics {
  double forward = 0;
  double backward = 0;         // B
  double backward_input = 0;   // I
  double backward_weight = 0;  // W
  double transfer = 0;
  double wait = 0;
  double reduce = 0;
  double update = 0;
  double idle = 0;  // between events, and at either end of the timeline
  // Share of the makespan in which the rank computed nothing (F, B, I, W count as compute).
  double bubble = 0;
};

struct Metrics {
  std::vector<RankMetrics> ranks;
  double start = 0;     // first start of all
  double makespan = 0;  // last end of all − first start of all
  // The longest rank, from the begin of its own first compute to its own last end (the zero-bubble
  // papers' figure).
  double cost = 0;
  double ideal = 0;        // the longest sum of compute on one rank
  double bubble = 0;       // 1 − ideal / makespan
  double bubble_cost = 0;  // 1 − ideal / cost
};

Metrics measure(const Timeline& timeline);

}  // namespace headrace
