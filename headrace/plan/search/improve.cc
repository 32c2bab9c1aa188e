#include "headrace/plan/search/improve.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "headrace/plan/search/random.h"

namespace headrace::orders {
namespace {

// One step of a rank's list taken out at `from` and put in at `to`.
struct Move {
  int rank = 0;
  std::size_t from = 0;
  std::size_t to = 0;
};

class Search {
 public:
  Search(const Problem& problem, Order order, const Goal& goal, const Effort& effort)
      : problem_(problem),
        goal_(goal),
        effort_(effort),
        random_(effort.seed),
        clock_(problem),
        order_(std::move(order)) {}

  Order run() {
    Score score;
    if (!clock_.run(order_, score)) return order_;
    double value = weigh(score);
    Order best = order_;
    double best_value = value;
    std::size_t length = 0;
    for (const auto& steps : order_) length += steps.size();
    // A try costs something however short the lists are.
    const auto tries = effort_.steps / static_cast<std::int64_t>(length + 200);
    const double longest = *std::ranges::max_element(problem_.time);
    list_gaps();
    for (std::int64_t i = 0; i < tries && !gaps_.empty() && best_value > goal_.bound; ++i) {
      const Move move = pick();
      if (!apply(move)) continue;
      Score now;
      const bool runs = clock_.run(order_, now);
      const double heat =
          longest * 0.3 * std::pow(1 - static_cast<double>(i) / static_cast<double>(tries), 2);
      const double worse = weigh(now) - value;
      if (!runs || (worse > 0 && (heat <= 0 || random_.share() >= std::exp(-worse / heat)))) {
        undo(move);
        continue;
      }
      value += worse;
      list_gaps();
      if (value < best_value - 1e-9 * longest) {
        best_value = value;
        best = order_;
      }
    }
    return best;
  }

 private:
  double weigh(const Score& score) const { return orders::weigh(problem_, goal_, score); }

  struct Gap {
    int rank;
    std::size_t position;
  };

  // Where ranks stand idle in the order that holds.
  void list_gaps() {
    gaps_.clear();
    for (int rank = 0; rank < problem_.ranks; ++rank)
      for (std::size_t i = 1; i < order_[at(rank)].size(); ++i)
        if (clock_.idle_before(rank, i) > 0) gaps_.push_back({rank, i});
  }

  // Something for a gap: a later step brought into it, an earlier weight gradient put off to it, or
  // the step it waits for brought forward on the other rank.
  Move pick() {
    const Gap gap = gaps_[random_.below(gaps_.size())];
    const auto& steps = order_[at(gap.rank)];
    const std::size_t choice = random_.below(4);
    if (choice == 0) return {gap.rank, later(gap), gap.position};
    if (choice == 1) {
      const std::size_t from = random_.below(gap.position);
      return {gap.rank, from, gap.position - 1};
    }
    if (choice == 2) return pull_source(steps[gap.position]);
    const std::size_t from = random_.below(steps.size());
    const std::size_t reach = 1 + random_.below(3);
    return {gap.rank, from, from >= reach ? from - reach : 0};
  }

  std::size_t later(const Gap& gap) {
    const std::size_t left = order_[at(gap.rank)].size() - gap.position;
    return gap.position + random_.below(std::min<std::size_t>(left, at(4 + 6 * problem_.ranks)));
  }

  // Brings the step that another rank sends, and the idle one waits for, forward by one or two.
  Move pull_source(const Step& step) {
    const int stage = step.part == 0 ? step.stage - 1 : step.stage + 1;
    if (step.part == 2 || stage < 0 || stage >= problem_.stages) return {};
    const int rank = problem_.placement.rank(stage, step.microbatch);
    const auto& steps = order_[at(rank)];
    const auto found = std::ranges::find_if(steps, [&](const Step& other) {
      return other.part == step.part && other.stage == stage && other.microbatch == step.microbatch;
    });
    const auto from = static_cast<std::size_t>(found - steps.begin());
    const std::size_t reach = 1 + random_.below(2);
    return {rank, from, from >= reach ? from - reach : 0};
  }

  // Moves the step if order and memory of its rank allow.
  bool apply(const Move& move) {
    auto& steps = order_[at(move.rank)];
    if (move.from >= steps.size() || move.from == move.to) return false;
    if (!may_pass(steps, move)) return false;
    shift(steps, move.from, move.to);
    if (fits(problem_, move.rank, steps)) return true;
    shift(steps, move.to, move.from);
    return false;
  }

  void undo(const Move& move) { shift(order_[at(move.rank)], move.to, move.from); }

  static void shift(std::vector<Step>& steps, std::size_t from, std::size_t to) {
    const auto begin = steps.begin();
    if (from < to) {
      std::rotate(begin + static_cast<std::ptrdiff_t>(from),
                  begin + static_cast<std::ptrdiff_t>(from) + 1,
                  begin + static_cast<std::ptrdiff_t>(to) + 1);
    } else {
      std::rotate(begin + static_cast<std::ptrdiff_t>(to),
                  begin + static_cast<std::ptrdiff_t>(from),
                  begin + static_cast<std::ptrdiff_t>(from) + 1);
    }
  }

  // A step may not pass another of its microbatch, nor one of its own kind and stage.
  static bool may_pass(const std::vector<Step>& steps, const Move& move) {
    const Step& moved = steps[move.from];
    for (std::size_t i = std::min(move.from, move.to); i <= std::max(move.from, move.to); ++i) {
      if (i == move.from) continue;
      const bool same_kind = steps[i].part == moved.part && steps[i].stage == moved.stage;
      if (same_kind || (steps[i].microbatch == moved.microbatch && steps[i].stage == moved.stage))
        return false;
    }
    return true;
  }

  const Problem& problem_;
  const Goal& goal_;
  const Effort& effort_;
  Random random_;
  Clock clock_;
  Order order_;
  std::vector<Gap> gaps_;
};

}  // namespace

double weigh(const Problem& problem, const Goal& goal, const Score& score) {
  const double over = goal.ceiling > 0 ? std::max(0.0, score.makespan - goal.ceiling) : 0;
  // The total pulls apart what the longest rank does not: a hundredth of the mean.
  return goal.makespan * score.makespan + goal.cost * score.cost + 10 * over +
         0.01 * score.total / problem.ranks;
}

Order improve(const Problem& problem, Order order, const Goal& goal, const Effort& effort) {
  return Search(problem, std::move(order), goal, effort).run();
}

}  // namespace headrace::orders
