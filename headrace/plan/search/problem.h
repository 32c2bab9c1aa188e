// The search's own form of the question: which order of forwards, input gradients and weight
// gradients on every rank, at these costs and memory limits? Flat tables and a clock that is fast
// enough to try a hundred thousand orders a second.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"

namespace headrace::orders {

constexpr std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

// One action, always with the backward split: 0 forward, 1 input gradient, 2 weight gradient.
struct Step {
  std::uint8_t part = 0;
  int stage = 0;
  int microbatch = 0;
};
using Order = std::vector<std::vector<Step>>;  // [rank]

struct Problem {
  Problem(const GeneratorOptions& options, Placement where);

  Placement placement;
  int ranks;
  int stages;
  int microbatches;
  double transfer;
  std::vector<double> time;    // [stage · 3 + part]
  std::vector<double> memory;  // [stage · 3 + part]
  std::vector<double> limit;   // [rank]

  double time_of(const Step& step) const { return time[at(step.stage * 3 + step.part)]; }
  double memory_of(const Step& step) const { return memory[at(step.stage * 3 + step.part)]; }
  std::size_t slot(int stage, int microbatch) const {
    return at(stage) * at(microbatches) + at(microbatch);
  }
};

struct Score {
  double makespan = 0;
  double cost = 0;   // the longest rank, from its first start to its end
  double total = 0;  // of all ranks' ends: tells orders of the same makespan apart
};

// Runs orders; keeps when each step of the last one started, and how long its rank stood idle
// before.
class Clock {
 public:
  explicit Clock(const Problem& problem);

  // False where the order cannot run.
  bool run(const Order& order, Score& score);

  double idle_before(int rank, std::size_t position) const { return idle_[at(rank)][position]; }
  double start(int rank, std::size_t position) const { return start_[at(rank)][position]; }
  double end_of_rank(int rank) const { return now_[at(rank)]; }

 private:
  std::size_t missing(const Step& step, double& ready) const;

  const Problem& problem_;
  std::vector<double> forward_end_;  // by slot; below 0: not done
  std::vector<double> input_end_;
  std::vector<int> waiting_;  // by slot, forwards then input gradients: the rank that waits for it
  std::vector<double> now_;
  std::vector<std::size_t> position_;
  std::vector<std::vector<double>> idle_;
  std::vector<std::vector<double>> start_;
};

// Whether a rank's list stays within its memory.
bool fits(const Problem& problem, int rank, const std::vector<Step>& steps);

// There and back. A fused backward becomes its two halves, an overlapped pair its two actions:
// neither takes longer for it.
Order order_of(const Schedule& schedule);
Schedule schedule_of(const Order& order, const Problem& problem);

}  // namespace headrace::orders
