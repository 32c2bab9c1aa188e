// PipeDream-2BW: 1F1B without a flush, an optimizer step after every m >= P backwards, and two
// weight versions a stage. Asynchronous: batch t (microbatches t·m … t·m+m-1) runs everywhere with
// version max(0, t-1), a constant delay of one (versions.h).
//
//   m = 4   rank 0  F0 F1 F2 .  .  B0 F3 B1 F4 B2 F5 B3 U F6 B4 …
//           rank 1     F0 F1 .  B0 F2 B1 F3 B2 F4 B3 U F5 B4 …
//           rank 2        F0 B0 F1 B1 F2 B2 F3 B3 U F4 B4 …
//
// A last batch of fewer than m microbatches is stepped too.
// Narayanan et al., "Memory-Efficient Pipeline-Parallel DNN Training", ICML 2021.
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

int group_of(const GeneratorOptions& options) {
  return options.group_size == 0 ? options.ranks : options.group_size;
}

}  // namespace

Refusal pipedream_2bw_rule(const GeneratorOptions& options) {
  const int group = group_of(options);
  return unless(group >= options.ranks,
                "pipedream-2bw needs group_size (microbatches of one update) >= ranks = ",
                options.ranks, ", given ", group, "; the nearest that works is ", options.ranks);
}

Schedule pipedream_2bw(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int group = group_of(options);
  Schedule schedule = empty_schedule("pipedream-2bw", linear_placement(ranks), options);
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    one_by_one(
        options.microbatches, ranks - rank - 1, [&](int k) { list.push_back(forward(rank, k)); },
        [&](int k) {
          list.push_back(backward(rank, k));
          if ((k + 1) % group == 0 || k + 1 == options.microbatches) list.push_back(update(rank));
        });
  }
  return schedule;
}

}  // namespace headrace
