// Builds an order from left to right in time: whenever a rank is free it takes a backward that is
// there, else a forward that may come in, else a weight gradient if that is done in time. What may
// come in, and how late is in time, a policy says; the search tries many.
#pragma once

#include <optional>

#include "headrace/plan/search/problem.h"

namespace headrace::orders {

struct RankPolicy {
  // Microbatches that a stage may hold: `slope` × the stages behind it, it included, plus `extra`,
  // and never more than the memory limit. Negative slope: the limit alone.
  double slope = -1;
  double extra = 0;
  // A weight gradient may end later than the next input arrives by this share of its own time.
  double lateness = 0;
  bool weights_before_forwards = false;  // free memory before taking more in
};

struct Policy {
  std::vector<RankPolicy> ranks;
  // Where a rank has several stages: those nearer the loss first, or the older microbatch first.
  bool deep_first = true;
};

// Nothing where the policy leaves ranks waiting for one another.
std::optional<Order> greedy(const Problem& problem, const Policy& policy);

}  // namespace headrace::orders
