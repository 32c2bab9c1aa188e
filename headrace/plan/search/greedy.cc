#include "headrace/plan/search/greedy.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <queue>
#include <utility>

namespace headrace::orders {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// A stage's work on one of its ranks: which microbatches it does, and how far it is.
struct Lane {
  int stage = 0;
  int level = 0;  // stages of this rank that a microbatch meets after this one
  std::vector<int> microbatches;
  std::size_t forwards = 0;
  std::size_t inputs = 0;
  double cap = 0;  // microbatches it may hold
};

class Builder {
 public:
  Builder(const Problem& problem, const Policy& policy)
      : problem_(problem),
        policy_(policy),
        lanes_(at(problem.ranks)),
        weights_(at(problem.ranks)),
        held_(at(problem.ranks)),
        free_(at(problem.ranks)),
        forward_end_(at(problem.stages) * at(problem.microbatches), kNever),
        input_end_(forward_end_.size(), kNever),
        order_(at(problem.ranks)) {
    for (int rank = 0; rank < problem.ranks; ++rank) open_lanes(rank);
  }

  std::optional<Order> run() {
    for (int rank = 0; rank < problem_.ranks; ++rank) events_.emplace(0, rank);
    std::size_t left = 3 * forward_end_.size();
    while (!events_.empty()) {
      const auto [time, rank] = events_.top();
      events_.pop();
      if (time < free_[at(rank)]) continue;
      if (decide(rank, time)) --left;
    }
    if (left > 0) return std::nullopt;
    return std::move(order_);
  }

 private:
  void open_lanes(int rank) {
    const std::vector<int> stages = problem_.placement.stages_of(rank);
    for (std::size_t i = 0; i < stages.size(); ++i) {
      Lane lane;
      lane.stage = stages[i];
      lane.level = static_cast<int>(stages.size() - 1 - i);
      for (int m = 0; m < problem_.microbatches; ++m)
        if (problem_.placement.rank(lane.stage, m) == rank) lane.microbatches.push_back(m);
      const RankPolicy& own = policy_.ranks[at(rank)];
      lane.cap = own.slope < 0
                     ? kNever
                     : std::max(1.0, own.slope * (problem_.stages - lane.stage) + own.extra);
      lanes_[at(rank)].push_back(std::move(lane));
    }
  }

  double forward_arrives(const Lane& lane, int rank) const {
    if (lane.forwards == lane.microbatches.size()) return kNever;
    if (lane.stage == 0) return 0;
    const int m = lane.microbatches[lane.forwards];
    return arrival(forward_end_[problem_.slot(lane.stage - 1, m)], lane.stage - 1, m, rank);
  }

  double input_arrives(const Lane& lane, int rank) const {
    if (lane.inputs == lane.forwards) return kNever;
    const int m = lane.microbatches[lane.inputs];
    const double own = forward_end_[problem_.slot(lane.stage, m)];
    if (lane.stage + 1 == problem_.stages) return own;
    return arrival(input_end_[problem_.slot(lane.stage + 1, m)], lane.stage + 1, m, rank);
  }

  double arrival(double end, int stage, int microbatch, int rank) const {
    return problem_.placement.rank(stage, microbatch) == rank ? end : end + problem_.transfer;
  }

  // A forward must leave room for its microbatch to come by again before anything is freed.
  bool may_enter(const Lane& lane, int rank) const {
    const double memory = problem_.memory[at(lane.stage * 3)];
    return static_cast<double>(lane.forwards - lane.inputs) < lane.cap &&
           held_[at(rank)] + memory * (1 + lane.level) <= problem_.limit[at(rank)];
  }

  // The lane to serve among those whose input is there; null where there is none.
  template <class Arrives, class May>
  Lane* choose(int rank, double time, Arrives arrives, May may) {
    Lane* best = nullptr;
    for (Lane& lane : lanes_[at(rank)]) {
      if (arrives(lane) > time || !may(lane)) continue;
      // Lanes ascend in stage: a later one is nearer the loss.
      const bool older = best != nullptr && lane.forwards < best->forwards;
      if (best == nullptr || policy_.deep_first || older) best = &lane;
    }
    return best;
  }

  bool decide(int rank, double time) {
    auto input_time = [&](const Lane& lane) { return input_arrives(lane, rank); };
    auto forward_time = [&](const Lane& lane) { return forward_arrives(lane, rank); };
    auto always = [](const Lane&) { return true; };
    auto room = [&](const Lane& lane) { return may_enter(lane, rank); };
    if (Lane* lane = choose(rank, time, input_time, always)) {
      const int m = lane->microbatches[lane->inputs++];
      weights_[at(rank)].push_back({2, lane->stage, m});
      return put(rank, time, {1, lane->stage, m});
    }
    const bool weights = !weights_[at(rank)].empty();
    Lane* lane = choose(rank, time, forward_time, room);
    if (lane != nullptr && !(weights && policy_.ranks[at(rank)].weights_before_forwards))
      return put(rank, time, {0, lane->stage, lane->microbatches[lane->forwards++]});
    if (!weights) return false;  // whoever sends the next input wakes the rank
    const Step weight = weights_[at(rank)].front();
    const double length = problem_.time_of(weight);
    const double next = next_arrival(rank, time);
    if (next + policy_.ranks[at(rank)].lateness * length < time + length) {
      events_.emplace(next, rank);
      return false;
    }
    weights_[at(rank)].pop_front();
    return put(rank, time, weight);
  }

  // When the next input arrives that is on its way and may be taken.
  double next_arrival(int rank, double time) const {
    double next = kNever;
    for (const Lane& lane : lanes_[at(rank)]) {
      const double input = input_arrives(lane, rank);
      if (input > time) next = std::min(next, input);
      const double forward = forward_arrives(lane, rank);
      if (forward > time && may_enter(lane, rank)) next = std::min(next, forward);
    }
    return next;
  }

  bool put(int rank, double time, const Step& step) {
    const double end = time + problem_.time_of(step);
    free_[at(rank)] = end;
    held_[at(rank)] += problem_.memory_of(step);
    order_[at(rank)].push_back(step);
    events_.emplace(end, rank);
    const std::size_t slot = problem_.slot(step.stage, step.microbatch);
    if (step.part == 0) {
      forward_end_[slot] = end;
      if (step.stage + 1 < problem_.stages) wake(step.stage + 1, step.microbatch, end);
    } else if (step.part == 1) {
      input_end_[slot] = end;
      if (step.stage > 0) wake(step.stage - 1, step.microbatch, end);
    }
    return true;
  }

  void wake(int stage, int microbatch, double end) {
    const int rank = problem_.placement.rank(stage, microbatch);
    events_.emplace(end + problem_.transfer, rank);
  }

  using Event = std::pair<double, int>;

  const Problem& problem_;
  const Policy& policy_;
  std::vector<std::vector<Lane>> lanes_;
  std::vector<std::deque<Step>> weights_;
  std::vector<double> held_;
  std::vector<double> free_;
  std::vector<double> forward_end_;
  std::vector<double> input_end_;
  Order order_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

}  // namespace

std::optional<Order> greedy(const Problem& problem, const Policy& policy) {
  return Builder(problem, policy).run();
}

}  // namespace headrace::orders
