// Eager 1F1B: 1F1B whose warm-up runs twice as far ahead, so that transfers hide behind compute,
// for about twice the memory of rank 0.
//
//   rank 0  F0 F1 F2 F3 F4 .  .  B0    F5 B1    …
//   rank 1     F0 F1 F2 .  .  B0    F3 B1    …
//   rank 2        F0 .  B0    F1 B1    …        rank r: 2(P-r-1) forwards, then F and B by turns
//
// Figure 1b of Qi et al., "Pipeline Parallelism with Controllable Memory", 2024.
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {

Schedule eager_1f1b(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  Schedule schedule = empty_schedule("eager-1f1b", linear_placement(ranks), options);
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    one_by_one(
        options.microbatches, 2 * (ranks - rank - 1),
        [&](int k) { list.push_back(forward(rank, k)); },
        [&](int k) { list.push_back(backward(rank, k)); });
  }
  return schedule;
}

}  // namespace headrace
