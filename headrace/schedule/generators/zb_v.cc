// ZB-V: zero bubble with 1F1B's memory, on a V of two stages a rank: the loss comes out where the
// input went in, so that the first backward is there early and all ranks hold the same.
//
//   P = 2   rank 0  0F0 0F1 0F2 3F0 3I0 3W0 3F1 …      2P-1 forwards, then a forward, an input
//           rank 1      1F0 2F0 1F1 2F1 2I0 2W0 …      gradient and a weight gradient by turns
//
// Zero bubble of each rank's own time where F = I = W; otherwise a greedy fits W's into the gaps
// under the memory limit (2P forwards unless given). Two switches, all four settings tried, and
// each again with what the ranks were idle the time before: a rank that will be idle anyway may
// wait as long now. Qi et al., "Zero Bubble Pipeline Parallelism", ICLR 2024, section 6.
#include <algorithm>
#include <array>
#include <deque>
#include <optional>

#include "headrace/base/error.h"
#include "headrace/schedule/generators/orders.h"
#include "headrace/schedule/generators/v_shape.h"

namespace headrace {
namespace {

using v_shape::kPasses;

struct Switches {
  // A W in a gap before a forward that costs more idle time than others'.
  bool weight_before_forward;
  // The same before a backward of pass 2; pass 3 always may.
  bool weight_before_backward;
};

struct Rank {
  std::array<double, v_shape::kWithWeights> time{};
  std::array<double, v_shape::kWithWeights> memory{};
  double limit = 0;
  double now = 0;
  double held = 0;
  double bubble = 0;
  double allowed = 0;  // idle time it may have beyond this attempt's largest
  std::array<std::vector<double>, kPasses> ends;
  std::deque<Action> weights;  // due, each with its pass in the queue beside
  std::deque<int> weight_passes;
  std::vector<Action> list;

  int done(int pass) const { return static_cast<int>(ends[static_cast<std::size_t>(pass)].size()); }
};

class Greedy {
 public:
  Greedy(const GeneratorOptions& options, Switches switches)
      : switches_(switches),
        ranks_(options.ranks),
        microbatches_(options.microbatches),
        transfer_(transfer_time(options.costs)),
        line_(static_cast<std::size_t>(options.ranks)) {
    for (int i = 0; i < ranks_; ++i) set_costs(options, i);
  }

  // Gives each rank the idle time that it fell short of the longest in an earlier attempt.
  void allow(const std::vector<double>& bubbles) {
    const double longest = std::ranges::max(bubbles);
    for (std::size_t i = 0; i < line_.size(); ++i) line_[i].allowed = longest - bubbles[i];
  }

  // False where the limit leaves this greedy no way on.
  bool run() {
    warm_up();
    for (int round = 0; round < 2 * microbatches_ && !stuck_; ++round) {
      backward_round();
      for (int i = 0; i < ranks_; ++i) forward_turn(i);
    }
    for (int i = 0; i < ranks_; ++i)
      while (!at(i).weights.empty()) put_weight(i);
    return !stuck_;
  }

  double largest_bubble() const { return largest_bubble_; }
  std::vector<double> bubbles() const {
    std::vector<double> all;
    for (const Rank& rank : line_) all.push_back(rank.bubble);
    return all;
  }
  std::vector<std::vector<Action>> lists() const {
    std::vector<std::vector<Action>> all;
    for (const Rank& rank : line_) all.push_back(rank.list);
    return all;
  }

 private:
  Rank& at(int i) { return line_[static_cast<std::size_t>(i)]; }

  void set_costs(const GeneratorOptions& options, int i) {
    Rank& rank = at(i);
    const Costs& costs = options.costs;
    for (int pass = 0; pass < v_shape::kWithWeights; ++pass) {
      const int stage = v_shape::stage_of(pass, i, ranks_);
      const StageTimes times = times_of(costs, stage);
      const auto p = static_cast<std::size_t>(pass);
      if (v_shape::is_forward(pass)) {
        rank.time[p] = times.forward;
        rank.memory[p] = Costs::of_stage(costs.memory_forward, stage);
      } else if (v_shape::is_weight(pass)) {
        rank.time[p] = times.backward_weight;
        rank.memory[p] = Costs::of_stage(costs.memory_backward_weight, stage);
      } else {
        rank.time[p] = times.backward_input;
        rank.memory[p] = Costs::of_stage(costs.memory_backward_input, stage);
      }
    }
    rank.limit = options.memory_limit.empty() ? ranks_ * (rank.memory[0] + rank.memory[1])
                                              : memory_limit_of(options, i);
  }

  // The end of microbatch m's pass on a rank; below 0 where it is not done.
  double end(int pass, int i, int m) {
    const auto& ends = at(i).ends[static_cast<std::size_t>(pass)];
    return static_cast<std::size_t>(m) < ends.size() ? ends[static_cast<std::size_t>(m)] : -1;
  }

  // When the input of a rank's next microbatch of a pass arrives; below 0 where nothing is sent.
  double arrives(int pass, int i) {
    const int source = v_shape::source(pass, i, ranks_);
    if (source < 0) return -1;
    const double sent = end(pass, source, at(i).done(pass));
    return sent < 0 ? -1 : sent + transfer_;
  }

  // Whether the pass's next microbatch has all that it needs.
  bool ready(int pass, int i) {
    const int m = at(i).done(pass);
    if (m >= microbatches_) return false;
    const int source = v_shape::source(pass, i, ranks_);
    if (source >= 0 && end(pass, source, m) < 0) return false;
    return pass == 0 || end(pass - 1, i, m) >= 0;
  }

  void put(int pass, int i) {
    Rank& rank = at(i);
    const auto p = static_cast<std::size_t>(pass);
    stuck_ = stuck_ || !ready(pass, i) || rank.held + rank.memory[p] > rank.limit;
    if (stuck_) return;
    const double start = std::max(rank.now, arrives(pass, i));
    if (rank.done(0) > 0) {
      rank.bubble += start - rank.now;
      largest_bubble_ = std::max(largest_bubble_, rank.bubble);
    }
    rank.now = start + rank.time[p];
    rank.held += rank.memory[p];
    const int m = rank.done(pass);
    rank.list.push_back(v_shape::action(pass, i, ranks_, m));
    rank.ends[p].push_back(rank.now);
    if (!v_shape::is_forward(pass)) {
      rank.weights.push_back(v_shape::action(pass + 2, i, ranks_, m));
      rank.weight_passes.push_back(pass + 2);
    }
  }

  void put_weight(int i) {
    Rank& rank = at(i);
    const auto p = static_cast<std::size_t>(rank.weight_passes.front());
    rank.now += rank.time[p];
    rank.held += rank.memory[p];
    rank.list.push_back(rank.weights.front());
    rank.weights.pop_front();
    rank.weight_passes.pop_front();
  }

  // As many forwards of pass 0 as fit before pass 1 comes back to each rank; then, from the first
  // rank on, forwards of both passes by turns until none is behind the one before it.
  void warm_up() {
    for (int i = 0; i < ranks_; ++i) put(0, i);
    for (int i = ranks_ - 1; i >= 0; --i) {
      Rank& rank = at(i);
      while (i < ranks_ - 1 && rank.held + rank.memory[0] * (2 + 2 * i) <= rank.limit &&
             rank.now + rank.time[0] <= arrives(1, i) && rank.done(0) < microbatches_ && !stuck_)
        for (int j = 0; j <= i; ++j) put(0, j);
      put(1, i);
    }
    int pass = 0;
    for (int i = 1; i < ranks_; ++i)
      while (behind(i) && !stuck_) {
        for (int j = ranks_ - 1; j >= i; --j)
          if (at(j).done(pass) < microbatches_) put(pass, j);
        pass = 1 - pass;
      }
  }

  bool behind(int i) {
    const Rank& rank = at(i);
    const Rank& before = at(i - 1);
    return rank.done(0) + rank.done(1) < before.done(0) + before.done(1) ||
           (rank.done(1) <= before.done(1) && before.done(1) < microbatches_);
  }

  int backward_pass(int i) {
    const Rank& rank = at(i);
    if (rank.done(3) >= rank.done(2)) return 2;
    return i == ranks_ - 1 || ready(3, i) || rank.done(2) >= microbatches_ ? 3 : 2;
  }

  void backward_round() {
    std::vector<int> pass(line_.size());
    for (int i = 0; i < ranks_; ++i) {
      make_room(i, 2);
      pass[static_cast<std::size_t>(i)] = backward_pass(i);
    }
    // Upwards from the last rank first: what they send up is wanted in this same round.
    for (int i = ranks_ - 1; i >= 0; --i)
      if (pass[static_cast<std::size_t>(i)] == 3) backward_turn(3, i);
    for (int i = 0; i < ranks_; ++i)
      if (pass[static_cast<std::size_t>(i)] == 2) backward_turn(2, i);
  }

  void backward_turn(int pass, int i) {
    fill_gap(pass, i, pass == 3 || switches_.weight_before_backward);
    put(pass, i);
  }

  void forward_turn(int i) {
    const Rank& rank = at(i);
    if (rank.done(1) >= microbatches_) return;
    int pass = -1;
    if (rank.done(1) >= rank.done(0)) {
      pass = 0;
    } else if (ready(1, i)) {
      pass = 1;
    } else if (ready(0, i)) {
      pass = 0;
    }
    if (pass < 0) return;
    make_room(i, pass);
    fill_gap(pass, i, switches_.weight_before_forward);
    put(pass, i);
  }

  void make_room(int i, int pass) {
    Rank& rank = at(i);
    while (rank.held + rank.memory[static_cast<std::size_t>(pass)] > rank.limit && !stuck_) {
      stuck_ = rank.weights.empty();
      if (!stuck_) put_weight(i);
    }
  }

  // W's that fit before the pass's input arrives, then one more where the gap left is longer than
  // what other ranks are idle anyway.
  void fill_gap(int pass, int i, bool one_more) {
    Rank& rank = at(i);
    const double time = arrives(pass, i);
    if (time < 0) return;
    auto weight = [&] { return rank.time[static_cast<std::size_t>(rank.weight_passes.front())]; };
    while (!rank.weights.empty() && time >= rank.now + weight()) put_weight(i);
    if (rank.weights.empty() || !one_more) return;
    if (time - rank.now > std::max(largest_bubble_, rank.allowed) - rank.bubble) put_weight(i);
  }

  Switches switches_;
  int ranks_;
  int microbatches_;
  double transfer_;
  double largest_bubble_ = 0;
  bool stuck_ = false;
  std::vector<Rank> line_;
};

}  // namespace

Made zb_v(const GeneratorOptions& options) {
  Schedule schedule = empty_schedule("zb-v", v_placement(options.ranks), options);
  std::optional<Greedy> best;
  for (const bool backward : {true, false})
    for (const bool forward : {true, false}) {
      std::optional<Greedy> mine;
      while (true) {
        Greedy next(options, {forward, backward});
        if (mine) next.allow(mine->bubbles());
        if (!next.run()) break;
        if (mine && next.largest_bubble() >= mine->largest_bubble()) break;
        mine.emplace(std::move(next));
      }
      if (mine && (!best || mine->largest_bubble() < best->largest_bubble()))
        best.emplace(std::move(*mine));
    }
  if (!best)
    return {.refusal =
                cat("zb-v finds no way under this memory limit; it is made for ", 2 * options.ranks,
                    " forwards' memory a rank, the limit it takes when none is given")};
  schedule.ranks = best->lists();
  return {.schedule = std::move(schedule)};
}

}  // namespace headrace
