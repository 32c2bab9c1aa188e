// ZB-H1 and ZB-H2: 1F1B with the backward split, so that weight gradients (W), which nobody waits
// for, fill the bubble. I is the input gradient.
//
//   ZB-H1, P = 3   rank 0  F0 F1 F2 .  .  I0 W0 F3 I1 W1 …      warm-up P-r-1 forwards, W late by r
//                  rank 1     F0 F1 .  I0 F2 I1 W0 F3 I2 …      bubble (P-1)(F+I-W), 1F1B's memory
//                  rank 2        F0 I0 F1 I1 F2 I2 W0 …
//
//   ZB-H2, P = 3   rank 0  F0 F1 F2 F3 F4 I0 W0 F5 I1 W1 …      warm-up 2(P-r-1), W late by 2r
//                  rank 1     F0 F1 F2 I0 F3 I1 F4 I2 W0 …      bubble (P-1)(F+I-2W) of each rank's
//                  rank 2        F0 I0 F1 I1 F2 I2 F3 …         own time, (2P-1) activations
//
// ZB-H2's gain shows only where the optimizer step needs no barrier: its makespan is ZB-H1's.
// Qi et al., "Zero Bubble Pipeline Parallelism", ICLR 2024, section 2, figure 3.
#include <algorithm>

#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

Schedule handcrafted(std::string_view name, const GeneratorOptions& options, int reach) {
  const int ranks = options.ranks;
  const int microbatches = options.microbatches;
  Schedule schedule = empty_schedule(name, linear_placement(ranks), options);
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    const int delay = reach * rank;
    one_by_one(
        microbatches, reach * (ranks - rank - 1), [&](int k) { list.push_back(forward(rank, k)); },
        [&](int k) {
          list.push_back(backward_input(rank, k));
          if (k >= delay) list.push_back(backward_weight(rank, k - delay));
        });
    for (int m = std::max(0, microbatches - delay); m < microbatches; ++m)
      list.push_back(backward_weight(rank, m));
  }
  return schedule;
}

}  // namespace

Schedule zb_h1(const GeneratorOptions& options) {
  return handcrafted("zb-h1", options, 1);
}

Schedule zb_h2(const GeneratorOptions& options) {
  return handcrafted("zb-h2", options, 2);
}

}  // namespace headrace
