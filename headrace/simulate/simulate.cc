#include "headrace/simulate/simulate.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/costs.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/schedule.h"
#include "headrace/schedule/walk.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

// Durations and memory by stage and kind, flat.
class Prices {
 public:
  Prices(const Schedule& schedule, const Costs& costs) {
    const int stages = schedule.placement.stages();
    require_costs(costs, stages);
    for (int stage = 0; stage < stages; ++stage) {
      const double forward = Costs::of_stage(costs.forward, stage);
      const double again = costs.recompute * forward + costs.overhead;
      const double input = Costs::of_stage(costs.backward_input, stage);
      const double weight = Costs::of_stage(costs.backward_weight, stage);
      const double reduce = schedule.placement.replicas(stage) > 1 ? costs.reduce : 0;
      for (const double time : {forward + costs.overhead, input + weight + again, input + again,
                                weight + costs.overhead, 0.0, 0.0, 0.0, 0.0, reduce, costs.update})
        times_.push_back(time);
      const double memory_input = Costs::of_stage(costs.memory_backward_input, stage);
      const double memory_weight = Costs::of_stage(costs.memory_backward_weight, stage);
      for (const double memory : {Costs::of_stage(costs.memory_forward, stage),
                                  memory_input + memory_weight, memory_input, memory_weight})
        memory_.push_back(memory);
    }
  }
  double time(const Action& a) const {
    return times_[static_cast<std::size_t>(a.stage) * 10 + static_cast<std::size_t>(a.kind)];
  }
  double memory(const Action& a) const {
    return is_compute(a.kind)
               ? memory_[static_cast<std::size_t>(a.stage) * 4 + static_cast<std::size_t>(a.kind)]
               : 0;
  }

 private:
  std::vector<double> times_;   // 10 a stage, by kind
  std::vector<double> memory_;  // 4 a stage
};

constexpr double kNotYet = -1;  // times start at 0

// The state of the walk: when everything was done, and each rank's clock and memory.
template <bool Record>
class Run {
 public:
  Run(const Schedule& schedule, const Dependencies& depend, const Costs& costs)
      : schedule_(schedule),
        depend_(depend),
        prices_(schedule, costs),
        latency_(costs.latency),
        flow_(costs.bandwidth > 0 ? costs.message_bytes / costs.bandwidth : 0),
        overlapped_(costs.overlapped),
        block_(costs.transfers_block && depend.transfers()),
        at_(depend.slots(), kNotYet),
        ranks_(schedule.ranks.size()) {
    if constexpr (Record) {
      events_.resize(schedule.ranks.size());
      for (std::size_t rank = 0; rank < events_.size(); ++rank)
        events_[rank].reserve(schedule.ranks[rank].size());
    }
  }

  bool done(Slot slot) const { return at_[static_cast<std::size_t>(slot)] >= 0; }

  // Where transfers block, the first to come to its end of one waits for the other.
  Slot blocked_by(int rank, std::size_t at) {
    if (!block_) return -1;
    const Action& a = action(rank, at);
    if (!is_send(a.kind) && !is_recv(a.kind)) return -1;
    const auto slot = static_cast<std::size_t>(depend_.slot(a));
    at_[slot] = this->rank(rank).free;
    const Slot other = depend_.slot(Dependencies::other_end(a));
    return done(other) ? -1 : other;
  }

  void run(int rank, std::size_t at, std::size_t count) {
    if (count == 2) {
      run_pair(rank, at);
      return;
    }
    const Action& a = action(rank, at);
    if (is_send(a.kind) || is_recv(a.kind)) {
      run_transfer(rank, a);
      return;
    }
    const double free = this->rank(rank).free;
    const Ready ready = ready_for(rank, a, {free, free});
    finish(rank, a, ready, ready.arrived + prices_.time(a));
  }

  void prefetch(int rank, Slot slot) const {
    if (slot >= 0) __builtin_prefetch(&at_[static_cast<std::size_t>(slot)], 1);
    if constexpr (Record) {
      const std::vector<Event>& events = events_[static_cast<std::size_t>(rank)];
      __builtin_prefetch(events.data() + events.size() + 2, 1);
    }
  }

  Totals totals() const {
    Totals totals;
    for (const Rank& rank : ranks_) {
      totals.makespan = std::max(totals.makespan, rank.free);
      if (rank.first >= 0) totals.cost = std::max(totals.cost, rank.free - rank.first);
      totals.peak_memory.push_back(rank.peak);
    }
    return totals;
  }
  std::vector<std::vector<Event>> take_events() { return std::move(events_); }

  // What synchronous schedules leave unsaid: their reductions and optimizer step.
  void close(const Costs& costs) {
    bool reductions = costs.reduce > 0;
    bool updates = costs.update > 0;
    bool backward = false;
    for (const std::vector<Action>& actions : schedule_.ranks) {
      for (const Action& a : actions) {
        reductions = reductions && a.kind != Kind::ReduceGradients;
        updates = updates && a.kind != Kind::Update;
        backward = backward || a.kind == Kind::Backward || a.kind == Kind::BackwardWeight;
      }
    }
    if (!backward || (!reductions && !updates)) return;
    for (int rank = 0; rank < schedule_.placement.ranks; ++rank) {
      for (const Kind kind : {Kind::ReduceGradients, Kind::Update}) {
        if (kind == Kind::Update ? !updates : !reductions) continue;
        for (const int stage : schedule_.placement.stages_of(rank)) {
          const Action a = {.kind = kind, .stage = stage};
          const double free = this->rank(rank).free;
          if (prices_.time(a) > 0) finish(rank, a, {free, free}, free + prices_.time(a));
        }
      }
    }
  }

 private:
  struct Rank {
    double free = 0;         // end of its last action
    double first = kNotYet;  // begin of its first compute
    double memory = 0;
    double peak = 0;
  };
  struct Ready {
    double sent = 0;     // all that is needed is done
    double arrived = 0;  // and here
  };

  const Action& action(int rank, std::size_t at) const {
    return schedule_.ranks[static_cast<std::size_t>(rank)][at];
  }
  Rank& rank(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  double& at(const Action& a) { return at_[static_cast<std::size_t>(depend_.slot(a))]; }

  // What is needed from other ranks; what is needed from this one is done, by its order.
  Ready ready_for(int rank, const Action& a, Ready ready) const {
    double posted = 0;
    depend_.each(a, [&](Kind kind, int stage, int microbatch) {
      const double time = at_[static_cast<std::size_t>(depend_.slot(kind, stage, microbatch))];
      if (is_recv(kind)) posted = time;
      // A transfer that blocks has ended with its receive.
      if (block_ || depend_.rank(stage, microbatch) == rank) return;
      const double arrival = std::max(time + latency_, posted) + flow_;
      ready.sent = std::max(ready.sent, time);
      ready.arrived = std::max(ready.arrived, arrival);
    });
    return ready;
  }

  void run_pair(int rank, std::size_t at) {
    const Action& a = action(rank, at);
    const Action& b = action(rank, at + 1);
    const double free = this->rank(rank).free;
    const Ready ready = ready_for(rank, b, ready_for(rank, a, {free, free}));
    const double sum = prices_.time(a) + prices_.time(b);
    const double length = overlapped_ >= 0 ? overlapped_ : sum;
    const double end = ready.arrived + length;
    const double middle = ready.arrived + (sum > 0 ? length * prices_.time(a) / sum : 0);
    finish(rank, a, ready, middle);
    finish(rank, b, {middle, middle}, end);
    this->at(a) = end;  // both results come out of the whole
  }

  void run_transfer(int rank, const Action& a) {
    const double free = this->rank(rank).free;
    if (!block_) {
      finish(rank, a, {free, free}, free);
      return;
    }
    // Both ends have been come to, and hold the time of that.
    const double start = std::max(at(a), at(Dependencies::other_end(a)));
    const double end = start + latency_ + flow_;
    record(rank, a, {start, end}, end);
    this->rank(rank).free = end;
  }

  void finish(int rank, const Action& a, const Ready& ready, double end) {
    record(rank, a, ready, end);
    Rank& own = this->rank(rank);
    if (is_compute(a.kind) && own.first < 0) own.first = ready.arrived;
    own.free = end;
    own.memory += prices_.memory(a);
    own.peak = std::max(own.peak, own.memory);
    const Slot slot = depend_.slot(a);
    if (slot >= 0) at_[static_cast<std::size_t>(slot)] = end;
  }

  void record(int rank, const Action& a, const Ready& ready, double end) {
    if constexpr (Record) {
      const double free = this->rank(rank).free;
      events_[static_cast<std::size_t>(rank)].push_back({.action = a,
                                                         .start = free,
                                                         .end = end,
                                                         .wait = ready.sent - free,
                                                         .transfer = ready.arrived - ready.sent});
    }
  }

  const Schedule& schedule_;
  const Dependencies& depend_;
  Prices prices_;
  double latency_;
  double flow_;  // time a message's bytes take
  double overlapped_;
  bool block_;
  // By slot: when it was done; of a transfer that blocks, when its end was come to.
  std::vector<double> at_;
  std::vector<Rank> ranks_;
  std::vector<std::vector<Event>> events_;
};

void require_memory_of(const Schedule& schedule, const Dependencies& depend, bool record) {
  std::size_t actions = 0;
  for (const std::vector<Action>& list : schedule.ranks) actions += list.size();
  const double times = static_cast<double>(depend.slots()) * sizeof(double);
  const double events = record ? static_cast<double>(actions) * sizeof(Event) : 0;
  require_memory(times + events, cat("simulating ", schedule.name, " with ",
                                     count_text(static_cast<std::int64_t>(actions)), " actions"));
}

template <bool Record>
Simulation run(const Schedule& schedule, const Costs& costs, Totals& totals) {
  require_places(schedule);
  if (costs.transfers_block && !has_transfers(schedule))
    return run<Record>(lower(schedule, Receives::Paired), costs, totals);
  const Dependencies depend(schedule);
  require_memory_of(schedule, depend, Record);
  Run<Record> state(schedule, depend, costs);
  require_complete(schedule, depend, walk(schedule, depend, state));
  state.close(costs);
  totals = state.totals();
  return {.timeline = {.name = schedule.name, .ranks = state.take_events()},
          .peak_memory = totals.peak_memory};
}

}  // namespace

Simulation simulate(const Schedule& schedule, const Costs& costs) {
  Totals totals;
  return naming_memory(cat("simulating ", schedule.name),
                       [&] { return run<true>(schedule, costs, totals); });
}

Totals simulate_totals(const Schedule& schedule, const Costs& costs) {
  Totals totals;
  naming_memory(cat("simulating ", schedule.name),
                [&] { return run<false>(schedule, costs, totals); });
  return totals;
}

}  // namespace headrace
