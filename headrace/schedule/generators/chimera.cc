// Chimera: pipelines in both directions over the same ranks, 2f of them (f = 1 unless asked for),
// each doing every 2f-th microbatch; where one waits, another works. Every rank holds 2f stages, so
// that weights are held 2f times.
//
//   P = 4, M = 4   rank 0  0F0 0F2 .   3F1 3B1 3F3 3B3 .   0B0 0B2      down: microbatches 0, 2
//                  rank 1  .   1F0 2F1 1F2 2F3 2B1 1B0 2B3 1B2          up: 1, 3, stages reversed
//
// In slots of one action, stage s of a pipeline runs its j-th forward at s + 2j and its j-th
// backward at 2P-1-s + 2j. Forwards of one direction and backwards of the other fill the even slots
// of a rank, the rest the odd ones, without conflict for even P; P microbatches make a unit of 2P
// slots, and units follow one another without a gap (the paper's direct concatenation). Bubble
// (P-2f)/(2fM + P-2f) for M = P and equal forward and backward.
// Li, Hoefler, "Chimera: Efficiently Training Large-Scale Neural Networks with Bidirectional
// Pipelines", SC 2021.
#include <algorithm>

#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

int pipelines_of(const GeneratorOptions& options) {
  return options.group_size == 0 ? 2 : options.group_size;
}

}  // namespace

// Replica 2i of stage s lies on rank s + i·P/f, replica 2i+1 on the mirror image of that.
Placement chimera_placement(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int pairs = pipelines_of(options) / 2;
  Placement placement;
  placement.ranks = ranks;
  placement.owners.resize(static_cast<std::size_t>(ranks));
  for (int stage = 0; stage < ranks; ++stage)
    for (int pair = 0; pair < pairs; ++pair) {
      const int rank = (stage + pair * (ranks / pairs)) % ranks;
      const int mirrored = (ranks - 1 - stage + pair * (ranks / pairs)) % ranks;
      auto& owners = placement.owners[static_cast<std::size_t>(stage)];
      owners.push_back(rank);
      owners.push_back(mirrored);
    }
  return placement;
}

Refusal chimera_placement_rule(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int pipelines = pipelines_of(options);
  if (ranks % 2 != 0)
    return cat("chimera needs an even number of ranks, given ", ranks,
               nearest_sizes(std::max(2, ranks - 1), ranks + 1));
  int nearest_fit = 2;
  for (int candidate = 2; candidate <= std::min(ranks, pipelines); candidate += 2)
    if (ranks % candidate == 0) nearest_fit = candidate;
  return unless(nearest_fit == pipelines,
                "chimera needs an even number of pipelines (group_size) that divides ranks = ",
                ranks, ", given ", pipelines, "; the nearest that works is ", nearest_fit);
}

Schedule chimera(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int pipelines = pipelines_of(options);
  Schedule schedule = empty_schedule("chimera", chimera_placement(options), options);

  struct Slot {
    int time;
    Action action;
  };
  std::vector<std::vector<Slot>> slots(static_cast<std::size_t>(ranks));
  const int in_unit = ranks / pipelines;  // microbatches that each pipeline does in a unit
  for (int m = 0; m < options.microbatches; ++m) {
    const int turn = m / pipelines;
    const int start = turn / in_unit * 2 * ranks + turn % in_unit * 2;
    for (int stage = 0; stage < ranks; ++stage) {
      auto& list = slots[static_cast<std::size_t>(schedule.placement.rank(stage, m))];
      list.push_back({start + stage, forward(stage, m)});
      list.push_back({start + 2 * ranks - 1 - stage, backward(stage, m)});
    }
  }
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = slots[static_cast<std::size_t>(rank)];
    std::ranges::sort(list, {}, &Slot::time);
    for (const Slot& slot : list) list_of(schedule, rank).push_back(slot.action);
  }
  return schedule;
}

}  // namespace headrace
