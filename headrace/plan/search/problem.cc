#include "headrace/plan/search/problem.h"

#include <algorithm>
#include <utility>

#include "headrace/schedule/generators/construct.h"

namespace headrace::orders {

Problem::Problem(const GeneratorOptions& options, Placement where)
    : placement(std::move(where)),
      ranks(placement.ranks),
      stages(placement.stages()),
      microbatches(options.microbatches),
      transfer(transfer_time(options.costs)) {
  const Costs& costs = options.costs;
  require_costs(costs, stages);
  for (int stage = 0; stage < stages; ++stage) {
    const StageTimes times = times_of(costs, stage);
    time.insert(time.end(), {times.forward, times.backward_input, times.backward_weight});
    memory.insert(memory.end(), {Costs::of_stage(costs.memory_forward, stage),
                                 Costs::of_stage(costs.memory_backward_input, stage),
                                 Costs::of_stage(costs.memory_backward_weight, stage)});
  }
  for (int rank = 0; rank < ranks; ++rank) limit.push_back(memory_limit_of(options, rank));
}

Clock::Clock(const Problem& problem)
    : problem_(problem),
      forward_end_(at(problem.stages) * at(problem.microbatches)),
      input_end_(forward_end_.size()),
      waiting_(2 * forward_end_.size()),
      now_(at(problem.ranks)),
      position_(at(problem.ranks)),
      idle_(at(problem.ranks)),
      start_(at(problem.ranks)) {}

// The first thing that a step still waits for, as its place in waiting_, or the size of that table;
// `ready` becomes the time when all inputs are there.
std::size_t Clock::missing(const Step& step, double& ready) const {
  const std::size_t own = problem_.slot(step.stage, step.microbatch);
  const std::size_t none = waiting_.size();
  auto arrival = [&](double end, int stage) {
    const bool here = problem_.placement.rank(stage, step.microbatch) ==
                      problem_.placement.rank(step.stage, step.microbatch);
    ready = std::max(ready, here ? end : end + problem_.transfer);
  };
  if (step.part == 0) {
    if (step.stage == 0) return none;
    const std::size_t before = problem_.slot(step.stage - 1, step.microbatch);
    if (forward_end_[before] < 0) return before;
    arrival(forward_end_[before], step.stage - 1);
    return none;
  }
  if (step.part == 2) return input_end_[own] < 0 ? own + forward_end_.size() : none;
  if (forward_end_[own] < 0) return own;
  if (step.stage + 1 == problem_.stages) return none;
  const std::size_t after = problem_.slot(step.stage + 1, step.microbatch);
  if (input_end_[after] < 0) return after + forward_end_.size();
  arrival(input_end_[after], step.stage + 1);
  return none;
}

bool Clock::run(const Order& order, Score& score) {
  std::ranges::fill(forward_end_, -1);
  std::ranges::fill(input_end_, -1);
  std::ranges::fill(waiting_, -1);
  std::ranges::fill(position_, 0);
  std::ranges::fill(now_, 0);
  std::vector<int> runnable;
  for (int rank = 0; rank < problem_.ranks; ++rank) {
    runnable.push_back(rank);
    idle_[at(rank)].resize(order[at(rank)].size());
    start_[at(rank)].resize(order[at(rank)].size());
  }
  while (!runnable.empty()) {
    const int rank = runnable.back();
    runnable.pop_back();
    const auto& steps = order[at(rank)];
    std::size_t& next = position_[at(rank)];
    for (; next < steps.size(); ++next) {
      const Step& step = steps[next];
      double ready = now_[at(rank)];
      const std::size_t lacking = missing(step, ready);
      if (lacking < waiting_.size()) {
        waiting_[lacking] = rank;
        break;
      }
      idle_[at(rank)][next] = ready - now_[at(rank)];
      start_[at(rank)][next] = ready;
      const double end = ready + problem_.time_of(step);
      now_[at(rank)] = end;
      if (step.part == 2) continue;
      const std::size_t own = problem_.slot(step.stage, step.microbatch);
      (step.part == 0 ? forward_end_ : input_end_)[own] = end;
      int& waiter = waiting_[step.part == 0 ? own : own + forward_end_.size()];
      if (waiter >= 0 && waiter != rank) runnable.push_back(std::exchange(waiter, -1));
    }
  }
  score = {};
  for (int rank = 0; rank < problem_.ranks; ++rank) {
    if (position_[at(rank)] < order[at(rank)].size()) return false;
    score.makespan = std::max(score.makespan, now_[at(rank)]);
    if (!order[at(rank)].empty())
      score.cost = std::max(score.cost, now_[at(rank)] - start_[at(rank)].front());
    score.total += now_[at(rank)];
  }
  return true;
}

bool fits(const Problem& problem, int rank, const std::vector<Step>& steps) {
  double held = 0;
  const double limit = problem.limit[at(rank)];
  for (const Step& step : steps) {
    held += problem.memory_of(step);
    // Sums of measured bytes may differ in the last digit with their order.
    if (held > limit * (1 + 1e-12)) return false;
  }
  return true;
}

Order order_of(const Schedule& schedule) {
  Order order;
  for (const auto& list : schedule.ranks) {
    auto& steps = order.emplace_back();
    for (const Action& a : list) {
      if (a.kind == Kind::Forward) steps.push_back({0, a.stage, a.microbatch});
      if (a.kind == Kind::Backward || a.kind == Kind::BackwardInput)
        steps.push_back({1, a.stage, a.microbatch});
      if (a.kind == Kind::Backward || a.kind == Kind::BackwardWeight)
        steps.push_back({2, a.stage, a.microbatch});
    }
  }
  return order;
}

Schedule schedule_of(const Order& order, const Problem& problem) {
  Schedule schedule;
  schedule.placement = problem.placement;
  schedule.microbatches = problem.microbatches;
  constexpr Kind kKinds[] = {Kind::Forward, Kind::BackwardInput, Kind::BackwardWeight};
  for (const auto& steps : order) {
    auto& list = schedule.ranks.emplace_back();
    for (const Step& step : steps)
      list.push_back(
          {.kind = kKinds[step.part], .stage = step.stage, .microbatch = step.microbatch});
  }
  return schedule;
}

}  // namespace headrace::orders
