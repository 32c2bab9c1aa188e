// The best schedule found for given costs, memory limits and stages a rank: `auto`.
//
//   Schedule s = search({.ranks = 8, .microbatches = 32, .costs = costs, .memory_limit = {6}});
//
// All synchronous schedules of generators.h that fit the sizes and the memory are tried, greedy
// orders over the same placements, and a local search from the best of them. What comes back is
// never over the limit and never slower than the best of the fixed ones: first in makespan; then,
// where one schedule can be both, in cost (the longest rank's own time). Deterministic.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headrace/schedule/generators/generators.h"

namespace headrace {

struct SearchOptions {
  bool several_copies = true;          // placements that hold a stage's weights more than once
  std::int64_t steps = 100'000'000;    // effort of the local search, in actions run
  std::optional<Placement> placement;  // the only one that is tried
};

struct Found {
  Schedule schedule;
  double makespan = 0;
  double cost = 0;
  std::string fixed;  // the best of the fixed schedules; empty where none fits
  double fixed_makespan = 0;
  double fixed_cost = 0;  // the least of all fixed ones that fit
  // No order over the same placement can be faster (bound.h).
  double least_makespan = 0;
  double least_cost = 0;
};

// Throws UsageError where nothing fits the memory.
Found search_schedules(const GeneratorOptions& options, const SearchOptions& how = {});

Schedule search(const GeneratorOptions& options);

}  // namespace headrace
