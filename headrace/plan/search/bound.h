// What no order can be faster than, so that a search can say how far it may be from the best.
//
// For each rank, all that must hold of any order with the same placement:
//   * it does all its work, and does not start before the first input can be there;
//   * before the first gradient can be back it does forwards only, as many as fit in its memory;
//   * after its last forward, until that microbatch's gradient can be back, it does only the
//     backwards and weight gradients of what its memory holds;
//   * each activation is held from its forward to the end of its weight gradient, the way to the
//     loss and back in between, and the memory times the rank's time is no less than the sum of
//     that;
//   * all forwards and input gradients of any later rank lie between its own first forward and last
//     input gradient, with the ways there and back.
// The two idle times add up where the rank cannot hold all microbatches, since then the last
// forward comes after the first gradient.
#pragma once

#include "headrace/plan/search/problem.h"

namespace headrace::orders {

struct Bound {
  double makespan = 0;
  double cost = 0;
};

Bound lower_bound(const Problem& problem);

}  // namespace headrace::orders
