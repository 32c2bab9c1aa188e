// What actions cost: plain numbers that generators, the simulator and the planner share. Any unit
// of time and of memory, as long as it is the same throughout.
//
// Vectors hold one value a stage, or a single value for all stages.
#pragma once

#include <cstddef>
#include <vector>

namespace headrace {

struct Costs {
  std::vector<double> forward = {1};
  std::vector<double> backward_input = {1};
  std::vector<double> backward_weight = {1};
  // An overlapped pair takes this long; below 0: the sum of its two actions.
  double overlapped = -1;
  double latency = 0;    // of one transfer between ranks
  double bandwidth = 0;  // bytes in a unit of time; 0: transfers take the latency alone
  double message_bytes = 0;
  // A transfer occupies both ranks instead of overlapping their compute.
  bool transfers_block = false;
  double overhead = 0;  // added to every compute action
  // Share of the forward that is done again before a backward (0 or 1, or between).
  double recompute = 0;
  double update = 0;  // optimizer step of a stage
  double reduce = 0;  // gradient reduction of a stage with replicas

  // What each action adds to its rank's activation memory (B adds the sum of the last two).
  std::vector<double> memory_forward = {1};
  std::vector<double> memory_backward_input = {0};
  std::vector<double> memory_backward_weight = {-1};

  static double of_stage(const std::vector<double>& values, int stage) {
    return values.size() == 1 ? values[0] : values[static_cast<std::size_t>(stage)];
  }
};

}  // namespace headrace
