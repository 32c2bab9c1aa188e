#include "headrace/plan/search/search.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/plan/search/bound.h"
#include "headrace/plan/search/greedy.h"
#include "headrace/plan/search/improve.h"
#include "headrace/plan/search/problem.h"
#include "headrace/schedule/generators/construct.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

using orders::Order;
using orders::Problem;

struct Candidate {
  Schedule schedule;
  double makespan = std::numeric_limits<double>::infinity();
  double cost = std::numeric_limits<double>::infinity();
};

constexpr double kSame = 1 + 1e-9;  // ratios nearer than that are rounding

bool in_memory(const GeneratorOptions& options, const std::vector<double>& peaks) {
  for (std::size_t rank = 0; rank < peaks.size(); ++rank)
    if (peaks[rank] > memory_limit_of(options, static_cast<int>(rank)) * kSame) return false;
  return true;
}

bool several_copies(const Placement& placement) {
  return std::ranges::any_of(placement.owners,
                             [](const auto& owners) { return owners.size() > 1; });
}

class Searcher {
 public:
  Searcher(const GeneratorOptions& options, const SearchOptions& how)
      : options_(options), how_(how) {
    if (options_.stages_per_rank == 0) options_.stages_per_rank = 1;
    if (options_.sequence_splits == 0) options_.sequence_splits = 1;
  }

  Found run() {
    try_fixed();
    add_placements();
    for (const Placement& placement : placements_) try_greedy(placement);
    check_usage(best_.has_value(), "no schedule of ", options_.ranks, " ranks with ",
                options_.stages_per_rank, options_.stages_per_rank == 1 ? " stage" : " stages",
                " each keeps the memory limit; raise it, or use more ranks");
    refine();
    Found found;
    found.schedule = std::move(best_->schedule);
    found.schedule.name = "auto";
    found.makespan = best_->makespan;
    found.cost = best_->cost;
    found.fixed = fixed_name_;
    found.fixed_makespan = fixed_.makespan;
    found.fixed_cost = fixed_.cost;
    const orders::Bound bound = orders::lower_bound(Problem(options_, found.schedule.placement));
    found.least_makespan = bound.makespan;
    found.least_cost = bound.cost;
    return found;
  }

 private:
  // Not worse than the fixed ones in makespan, then in cost; then the faster.
  bool better(const Candidate& a, const Candidate& b) const {
    auto rank = [&](const Candidate& c) {
      return std::pair(c.makespan > fixed_.makespan * kSame, c.cost > fixed_.cost * kSame);
    };
    if (rank(a) != rank(b)) return rank(a) < rank(b);
    if (a.makespan > b.makespan * kSame || b.makespan > a.makespan * kSame)
      return a.makespan < b.makespan;
    return a.cost * kSame < b.cost;
  }

  void offer(Candidate candidate) {
    if (!best_ || better(candidate, *best_)) best_ = std::move(candidate);
  }

  std::optional<Candidate> rated(Schedule schedule) const {
    const Totals totals = simulate_totals(schedule, options_.costs);
    if (!in_memory(options_, totals.peak_memory)) return std::nullopt;
    return Candidate{std::move(schedule), totals.makespan, totals.cost};
  }

  void try_fixed() {
    std::vector<Candidate> fixed;
    for (const Generator& generator : generators()) {
      Made made = generator.try_make(options_);
      if (!made.schedule) continue;  // the sizes or the limit are not for it
      Schedule& schedule = *made.schedule;
      if (schedule.sequence_splits != options_.sequence_splits || is_asynchronous(schedule))
        continue;
      if (!how_.several_copies && several_copies(schedule.placement)) continue;
      if (how_.placement && schedule.placement != *how_.placement) continue;
      std::optional<Candidate> candidate = rated(std::move(schedule));
      if (!candidate) continue;
      if (candidate->makespan * kSame < fixed_.makespan) fixed_name_ = candidate->schedule.name;
      fixed_.makespan = std::min(fixed_.makespan, candidate->makespan);
      fixed_.cost = std::min(fixed_.cost, candidate->cost);
      fixed.push_back(std::move(*candidate));
    }
    for (Candidate& candidate : fixed) {
      remember(candidate.schedule.placement);
      starts_.push_back(candidate);
      offer(std::move(candidate));
    }
  }

  void remember(const Placement& placement) {
    if (std::ranges::find(placements_, placement) == placements_.end())
      placements_.push_back(placement);
  }

  // Those that a tight memory limit may have left without a fixed schedule.
  void add_placements() {
    if (how_.placement) return remember(*how_.placement);
    if (options_.stages_per_rank == 1) remember(linear_placement(options_.ranks));
    if (options_.stages_per_rank == 2) remember(v_placement(options_.ranks));
    if (options_.stages_per_rank >= 2)
      remember(loop_placement(options_.ranks, options_.stages_per_rank));
  }

  void try_greedy(const Placement& placement) {
    const Problem problem(options_, placement);
    orders::Clock clock(problem);
    const bool lanes = problem.stages > problem.ranks || several_copies(placement);
    // Building an order takes about four times as long as running it.
    const std::int64_t all = std::int64_t{4} * 60 * 3 * problem.stages * problem.microbatches;
    const bool few = all > how_.steps;
    for (const double slope : {-1.0, 1.0, 1.25, 1.5, 2.0})
      for (const double lateness : {0.0, 0.5, 1.0})
        for (const bool weights_first : {false, true})
          for (const bool deep_first : {true, false}) {
            if (!lanes && !deep_first) continue;  // one stage a rank: nothing to choose
            if (few && (slope == 1.25 || lateness == 1.0 || weights_first)) continue;
            orders::Policy policy;
            policy.ranks.assign(orders::at(problem.ranks),
                                {slope, slope < 0 ? 0.0 : 1.0, lateness, weights_first});
            policy.deep_first = deep_first;
            if (const auto order = orders::greedy(problem, policy))
              consider(problem, clock, *order);
          }
  }

  void consider(const Problem& problem, orders::Clock& clock, const Order& order) {
    orders::Score score;
    if (!clock.run(order, score)) return;
    for (int rank = 0; rank < problem.ranks; ++rank)
      if (!orders::fits(problem, rank, order[orders::at(rank)])) return;
    if (std::optional<Candidate> candidate = rated(orders::schedule_of(order, problem))) {
      starts_.push_back(*candidate);
      offer(std::move(*candidate));
      keep_best_starts();
    }
  }

  // Few are worth refining: the best in makespan and the best in cost.
  void keep_best_starts() {
    if (starts_.size() < 64) return;
    std::vector<Candidate> kept;
    for (const auto by : {&Candidate::makespan, &Candidate::cost}) {
      std::ranges::stable_sort(starts_, {}, by);
      for (std::size_t i = 0; i < 4; ++i) kept.push_back(starts_[i]);
    }
    starts_ = std::move(kept);
  }

  void refine() {
    std::ranges::stable_sort(starts_, {}, &Candidate::makespan);
    if (starts_.size() > 2) starts_.resize(2);
    const std::vector<Candidate> by_makespan = starts_;
    for (const Candidate& start : by_makespan) refine_makespan(start);
    const Candidate start = *best_;
    refine_cost(start);
  }

  void refine_makespan(const Candidate& start) {
    const Problem problem(options_, start.schedule.placement);
    const double bound = orders::lower_bound(problem).makespan * kSame;
    const orders::Goal goal{.makespan = 1, .cost = 0.02};
    if (best_->makespan > bound)
      keep(problem, orders::improve_policy(problem, goal, {.steps = how_.steps / 6}));
    if (best_->makespan > bound) improve(problem, start, goal);
    if (best_->makespan > bound && best_->schedule.placement == start.schedule.placement)
      improve(problem, *best_, goal);
  }

  void refine_cost(const Candidate& start) {
    const Problem problem(options_, start.schedule.placement);
    const double bound = orders::lower_bound(problem).cost * kSame;
    const orders::Goal goal{.makespan = 0, .cost = 1, .ceiling = start.makespan};
    if (best_->cost > bound)
      keep(problem, orders::improve_policy(problem, goal, {.steps = how_.steps / 6}));
    if (best_->cost > bound) improve(problem, start, goal);
    if (best_->cost > bound && best_->schedule.placement == start.schedule.placement)
      improve(problem, *best_, goal);
  }

  void improve(const Problem& problem, const Candidate& start, const orders::Goal& goal) {
    keep(problem, orders::improve(problem, orders::order_of(start.schedule), goal,
                                  {.steps = how_.steps / 6}));
  }

  void keep(const Problem& problem, const Order& order) {
    if (order.empty()) return;
    if (std::optional<Candidate> candidate = rated(orders::schedule_of(order, problem)))
      offer(std::move(*candidate));
  }

  GeneratorOptions options_;
  SearchOptions how_;
  Candidate fixed_;  // the best figures of the fixed schedules, not of one of them
  std::string fixed_name_;
  std::vector<Placement> placements_;
  std::vector<Candidate> starts_;
  std::optional<Candidate> best_;
};

}  // namespace

Found search_schedules(const GeneratorOptions& options, const SearchOptions& how) {
  return Searcher(options, how).run();
}

Schedule search(const GeneratorOptions& options) {
  return search_schedules(options).schedule;
}

}  // namespace headrace
