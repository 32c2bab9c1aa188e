// Seq1F1B: 1F1B over slices of the sequence. Each microbatch is cut in k splits, a unit each; a
// forward needs the splits before it (their keys and values), a backward the splits after it, so
// that backwards take a microbatch's splits in descending order.
//
//   P = 2, k = 2   rank 0  F0.0 F0.1      F1.0 B0.1 F1.1 B0.0 …     rank r: P-r-2+k forwards,
//                  rank 1       F0.0 F0.1 B0.1 F1.0 B0.0 F1.1 …     then F and B by turns
//
// The bubble shrinks k-fold; rank 0 holds P+k-1 units of 1/k microbatch. k = 1 is 1F1B.
// Sun et al., "Seq1F1B: Efficient Sequence-Level Pipeline Parallelism", 2024.
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {

Refusal seq1f1b_rule(const GeneratorOptions& options) {
  return unless(options.sequence_splits >= 0, "seq1f1b needs sequence_splits >= 1, given ",
                options.sequence_splits, "; the nearest that works is 1");
}

Schedule seq1f1b(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int splits = options.sequence_splits == 0 ? 2 : options.sequence_splits;
  Schedule schedule = empty_schedule("seq1f1b", linear_placement(ranks), options);
  schedule.sequence_splits = splits;
  schedule.microbatches = options.microbatches * splits;
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    one_by_one(
        schedule.microbatches, ranks - rank - 2 + splits,
        [&](int k) { list.push_back(forward(rank, k)); },
        [&](int k) {
          list.push_back(backward(rank, k / splits * splits + splits - 1 - k % splits));
        });
  }
  return schedule;
}

}  // namespace headrace
