// Automatic zero-bubble: the split backward fitted to measured costs under a memory limit, one
// limit for all ranks or one each, stages equal or not. With P activations it is the paper's ZB-1p,
// with 2P ZB-2p; without a limit it takes what it can use.
//
//   rank 0  F0 F1 F2 F3 F4 I0 W0 F5 I1 W1 …     as many forwards ahead as pay and fit, then F and I
//   by rank 1     F0 F1 F2 .  I0 F3 I1 W0 F4 …     turns, a W where a gap or the limit asks for
//   one, rank 2        F0 .  I0 F1 I1 F2 I2 W0 …     the W's left at the end
//
// A greedy with three switches, tried in all eight settings; the best rank time wins (each rank
// from its own first action to its last, as the optimizer step is taken to need no barrier). Qi et
// al., "Zero Bubble Pipeline Parallelism", ICLR 2024, section 3.1.
#include <algorithm>
#include <limits>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

struct Switches {
  bool bubble_before_first_backward;  // fill until the first backward is late rather than in time
  bool backward_first;                // a stage two forwards ahead of the next may skip one
  bool weight_in_any_gap;             // a W even where the gap is shorter and costs nothing yet
};

// One stage while its list grows.
struct Stage {
  StageTimes time{};
  StageTimes memory{};
  double limit = 0;
  double now = 0;     // end of the last action
  double held = 0;    // memory
  double bubble = 0;  // idle time since the first action
  double started = 0;
  int forwards = 0;
  int backwards = 0;
  int weights = 0;
  std::vector<double> forward_end;
  std::vector<double> backward_end;
  std::vector<Action> list;
};

class Greedy {
 public:
  Greedy(const GeneratorOptions& options, Switches switches)
      : switches_(switches),
        microbatches_(options.microbatches),
        transfer_(transfer_time(options.costs)) {
    for (int j = 0; j < options.ranks; ++j) {
      Stage stage;
      stage.time = times_of(options.costs, j);
      stage.memory = {Costs::of_stage(options.costs.memory_forward, j),
                      Costs::of_stage(options.costs.memory_backward_input, j),
                      Costs::of_stage(options.costs.memory_backward_weight, j)};
      stage.limit = memory_limit_of(options, j);
      if (stage.memory.forward > stage.limit)
        refuse("zb-auto: the memory limit of rank ", j, " is ", stage.limit,
               ", less than one forward's ", stage.memory.forward);
      stages_.push_back(std::move(stage));
    }
    ranks_ = options.ranks;
  }

  // Stops where the limit leaves no way on: refusal() says why.
  void run() {
    if (refusal_) return;
    warm_up();
    for (int m = 1; m < microbatches_ && !refusal_; ++m) {
      forward_round();
      for (int j = ranks_ - 1; j >= 0; --j) backward_turn(j);
    }
    if (refusal_) return;
    for (int j = 0; j < ranks_; ++j)
      while (at(j).weights < microbatches_) put_weight(j);
  }

  const Refusal& refusal() const { return refusal_; }
  double cost() const {
    double longest = 0;
    for (const Stage& stage : stages_) longest = std::max(longest, stage.now - stage.started);
    return longest;
  }

  std::vector<std::vector<Action>> lists() && {
    std::vector<std::vector<Action>> all;
    for (Stage& stage : stages_) all.push_back(std::move(stage.list));
    return all;
  }

 private:
  Stage& at(int j) { return stages_[static_cast<std::size_t>(j)]; }

  // When the next forward's input, or the next backward's gradient, arrives at stage j.
  double forward_arrives(int j) {
    if (j == 0) return 0;
    return at(j - 1).forward_end[static_cast<std::size_t>(at(j).forwards)] + transfer_;
  }
  double backward_arrives(int j) {
    if (j == ranks_ - 1) return 0;
    return at(j + 1).backward_end[static_cast<std::size_t>(at(j).backwards)] + transfer_;
  }

  void wait_until(Stage& stage, double time) {
    if (time <= stage.now) return;
    if (stage.forwards > 0) {
      stage.bubble += time - stage.now;
      largest_bubble_ = std::max(largest_bubble_, stage.bubble);
    }
    stage.now = time;
  }

  void put_forward(int j) {
    Stage& stage = at(j);
    wait_until(stage, forward_arrives(j));
    if (stage.forwards == 0) stage.started = stage.now;
    stage.now += stage.time.forward;
    stage.held += stage.memory.forward;
    stage.forward_end.push_back(stage.now);
    stage.list.push_back(forward(j, stage.forwards++));
  }

  void put_backward(int j) {
    Stage& stage = at(j);
    wait_until(stage, backward_arrives(j));
    stage.now += stage.time.backward_input;
    stage.held += stage.memory.backward_input;
    stage.backward_end.push_back(stage.now);
    stage.list.push_back(backward_input(j, stage.backwards++));
  }

  void put_weight(int j) {
    Stage& stage = at(j);
    stage.now += stage.time.backward_weight;
    stage.held += stage.memory.backward_weight;
    stage.list.push_back(backward_weight(j, stage.weights++));
  }

  // How many forwards more than the first fit before the first backward, from the last stage up.
  std::vector<int> extra_forwards() {
    std::vector<int> extra(stages_.size(), 0);
    double first_backward = at(ranks_ - 1).now + at(ranks_ - 1).time.backward_input;
    for (int j = ranks_ - 2; j >= 0; --j) {
      const Stage& stage = at(j);
      const double arrives = first_backward + transfer_;
      int& count = extra[static_cast<std::size_t>(j)];
      double held = stage.held;
      double end = stage.now;
      while (stage.forwards + count < microbatches_ && held + stage.memory.forward <= stage.limit) {
        const bool full = switches_.bubble_before_first_backward
                              ? end + stage.time.forward > arrives
                              : end >= arrives;
        if (full) break;
        held += stage.memory.forward;
        end += stage.time.forward;
        ++count;
      }
      first_backward = std::max(end, arrives) + stage.time.backward_input;
    }
    // A stage stays at least one forward ahead of the next.
    for (std::size_t j = 1; j < extra.size(); ++j)
      while (extra[j] > 0 && extra[j] >= extra[j - 1] && 1 + extra[j] < microbatches_) --extra[j];
    return extra;
  }

  void warm_up() {
    for (int j = 0; j < ranks_; ++j) put_forward(j);
    const std::vector<int> extra = extra_forwards();
    for (int j = 0; j < ranks_; ++j)
      for (int k = 0; k < extra[static_cast<std::size_t>(j)]; ++k) put_forward(j);
    for (int j = ranks_ - 1; j >= 0; --j) put_backward(j);
  }

  // Whether stage j, well ahead of the next, does better to leave this round's forward out.
  bool may_skip_forward(int j) {
    const Stage& stage = at(j);
    const Stage& next = at(j + 1);
    const double next_round = next.now + next.time.forward + next.time.backward_input + transfer_;
    if (stage.now >= next_round) return true;
    double weights = 0;  // those that must go first for the forward to fit
    double held = stage.held + stage.memory.forward;
    for (int w = stage.weights; held > stage.limit && w < stage.backwards; ++w) {
      weights += stage.time.backward_weight;
      held += stage.memory.backward_weight;
    }
    if (stage.now + stage.time.forward + weights <= next_round) return false;
    return next_round - stage.now <= largest_bubble_ - stage.bubble;
  }

  void forward_round() {
    std::vector<bool> wanted(stages_.size(), false);
    for (int j = 0; j < ranks_; ++j) {
      if (at(j).forwards >= microbatches_) continue;
      const bool ahead =
          switches_.backward_first && j + 1 < ranks_ && at(j).forwards >= at(j + 1).forwards + 2;
      wanted[static_cast<std::size_t>(j)] = !(ahead && may_skip_forward(j));
    }
    // A stage goes only where the next one goes too.
    for (std::size_t j = wanted.size() - 1; j-- > 0;) wanted[j] = wanted[j] && wanted[j + 1];
    for (int j = 0; j < ranks_; ++j) {
      if (!wanted[static_cast<std::size_t>(j)]) continue;
      make_room(j, at(j).memory.forward);
      if (j > 0) fill_gap(j, forward_arrives(j));
      put_forward(j);
    }
  }

  void backward_turn(int j) {
    make_room(j, at(j).memory.backward_input);
    if (j + 1 < ranks_) fill_gap(j, backward_arrives(j));
    if (j == 0 && at(j).forwards == microbatches_)
      while (at(j).weights < at(j).backwards) put_weight(j);
    put_backward(j);
  }

  void make_room(int j, double memory) {
    Stage& stage = at(j);
    while (stage.held + memory > stage.limit && !refusal_) {
      if (stage.weights < stage.backwards)
        put_weight(j);
      else
        refuse("zb-auto: the memory limit of rank ", j, " is ", stage.limit,
               "; the least that works is ", stage.held + memory);
    }
  }

  // W's until the next action can start: all that fit, then one more where the gap left would make
  // this the longest bubble of all, or where the switch says so.
  void fill_gap(int j, double arrives) {
    Stage& stage = at(j);
    while (stage.weights < stage.backwards && stage.now + stage.time.backward_weight <= arrives)
      put_weight(j);
    if (stage.weights >= stage.backwards || stage.now >= arrives) return;
    const bool harmless = arrives - stage.now <= largest_bubble_ - stage.bubble;
    if (!harmless || switches_.weight_in_any_gap) put_weight(j);
  }

  template <class... Parts>
  void refuse(const Parts&... why) {
    if (!refusal_) refusal_ = cat(why...);  // the first
  }

  Switches switches_;
  Refusal refusal_;
  int microbatches_;
  int ranks_ = 0;
  double transfer_;
  double largest_bubble_ = 0;
  std::vector<Stage> stages_;
};

}  // namespace

Made zb_auto(const GeneratorOptions& options) {
  Schedule schedule = empty_schedule("zb-auto", linear_placement(options.ranks), options);
  double best = std::numeric_limits<double>::infinity();
  for (int setting = 0; setting < 8; ++setting) {
    Greedy greedy(options, {setting < 4, setting % 4 < 2, setting % 2 == 0});
    greedy.run();
    if (greedy.refusal()) return {.refusal = *greedy.refusal()};
    if (greedy.cost() >= best) continue;
    best = greedy.cost();
    schedule.ranks = std::move(greedy).lists();
  }
  return {.schedule = std::move(schedule)};
}

}  // namespace headrace
