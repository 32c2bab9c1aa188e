// PipeDream: 1F1B that never drains, with an optimizer step (U) after every backward. Asynchronous:
// microbatch k runs on stage s, forward and backward, with weight version max(0, k - (P-1-s)),
// which the stage keeps until that backward is done (versions.h).
//
//   rank 0  F0 F1 F2 .  .  B0 U F3 B1 U F4 …
//   rank 1     F0 F1 .  B0 U F2 B1 U F3 …
//   rank 2        F0 B0 U F1 B1 U F2 …
//
// Narayanan et al., "PipeDream: Generalized Pipeline Parallelism for DNN Training", SOSP 2019.
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {

Schedule pipedream(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  Schedule schedule = empty_schedule("pipedream", linear_placement(ranks), options);
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    one_by_one(
        options.microbatches, ranks - rank - 1, [&](int k) { list.push_back(forward(rank, k)); },
        [&](int k) {
          list.push_back(backward(rank, k));
          list.push_back(update(rank));
        });
  }
  return schedule;
}

}  // namespace headrace
