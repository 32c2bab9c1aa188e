#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "headrace/plan/search/greedy.h"
#include "headrace/plan/search/improve.h"
#include "headrace/plan/search/random.h"

namespace headrace::orders {
namespace {

// Changes one or two ranks' policy, now and then all of them alike.
void mutate(Policy& policy, Random& random, int stages) {
  const bool all = random.below(12) == 0;
  const std::size_t first = random.below(policy.ranks.size());
  const std::size_t what = random.below(4);
  const double amount = random.share();
  for (std::size_t i = 0; i < policy.ranks.size(); ++i) {
    if (!all && i != first) continue;
    RankPolicy& rank = policy.ranks[i];
    if (what == 0) rank.lateness = amount < 0.3 ? 0 : (amount - 0.3) / 0.7;
    if (what == 1) rank.extra += amount < 0.5 ? 1 : -1;
    if (what == 2) rank.weights_before_forwards = !rank.weights_before_forwards;
    if (what == 3) {
      const double room = static_cast<double>(stages);
      rank.slope = amount < 0.25 ? -1 : 0;
      rank.extra = 1 + std::floor(2 * room * random.share());
    }
  }
  if (random.below(30) == 0) policy.deep_first = !policy.deep_first;
}

}  // namespace

Order improve_policy(const Problem& problem, const Goal& goal, const Effort& effort) {
  Random random(effort.seed);
  Clock clock(problem);
  Policy policy;
  policy.ranks.resize(at(problem.ranks));
  Order best;
  double best_value = std::numeric_limits<double>::infinity();
  double value = best_value;
  const auto length = 3 * static_cast<std::int64_t>(problem.stages) * problem.microbatches;
  // Building an order costs about four times as much as running it.
  const std::int64_t tries = effort.steps / (4 * (length + 200));
  const double heat = 0.2 * std::ranges::max(problem.time);
  for (std::int64_t i = 0; i < tries && best_value > goal.bound; ++i) {
    Policy changed = policy;
    if (i > 0) mutate(changed, random, problem.stages);
    std::optional<Order> order = greedy(problem, changed);
    Score score;
    if (!order || !clock.run(*order, score)) continue;
    const double now = weigh(problem, goal, score);
    const double cooled = heat * (1 - static_cast<double>(i) / static_cast<double>(tries));
    if (now > value && random.share() >= std::exp((value - now) / cooled)) continue;
    value = now;
    policy = std::move(changed);
    if (now >= best_value) continue;
    best_value = now;
    best = std::move(*order);
  }
  return best;
}

}  // namespace headrace::orders
