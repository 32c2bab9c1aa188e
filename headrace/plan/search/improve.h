// Local search over an order: where a rank stands idle, something else is brought there; a change
// is kept if it pays, or, early on, if it does not cost much (simulated annealing). Deterministic:
// the effort is counted in steps run, not in seconds.
#pragma once

#include <cstdint>

#include "headrace/plan/search/problem.h"

namespace headrace::orders {

// What counts: `makespan`, then `cost`, weighed so.
struct Goal {
  double makespan = 1;
  double cost = 0;
  double ceiling = 0;  // above this makespan the cost does not count; 0: none
  double bound = 0;    // stop when the weighed sum is this low
};

struct Effort {
  std::int64_t steps = 20'000'000;
  std::uint64_t seed = 1;
};

double weigh(const Problem& problem, const Goal& goal, const Score& score);

// The best order found, no worse than the one given.
Order improve(const Problem& problem, Order order, const Goal& goal, const Effort& effort);

// The same over what the greedy orders are made by: one rank's policy is changed, and the order
// built anew. Moves a whole rank's rhythm where improve() moves one step. Empty where no policy
// runs.
Order improve_policy(const Problem& problem, const Goal& goal, const Effort& effort);

}  // namespace headrace::orders
