// Looped breadth-first: every stage does all its microbatches before the rank's next stage starts.
//
//   rank 0  F0₀ F0₁ F0₂ F2₀ F2₁ F2₂             B2₀ B2₁ B2₂ B0₀ …     stage s on rank s mod P
//   rank 1      F1₀ F1₁ F1₂ F3₀ F3₁ F3₂ B3₀ B3₁ B3₂ B1₀ …
//
// One weight gather and one gradient reduction a stage and batch, so that it suits sharded weights;
// any M; holds all M·v activations. Backwards run in ascending order, as in the author's code.
// Lamy-Poirier, "Breadth-First Pipeline Parallelism", MLSys 2023. Bubble (P-1)(F+B)/v.
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {

Schedule breadth_first(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int chunks = options.stages_per_rank;
  Schedule schedule = empty_schedule("bfs", loop_placement(ranks, chunks), options);
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    for (int chunk = 0; chunk < chunks; ++chunk)
      for (int m = 0; m < options.microbatches; ++m)
        list.push_back(forward(chunk * ranks + rank, m));
    for (int chunk = chunks - 1; chunk >= 0; --chunk)
      for (int m = 0; m < options.microbatches; ++m)
        list.push_back(backward(chunk * ranks + rank, m));
  }
  return schedule;
}

}  // namespace headrace
