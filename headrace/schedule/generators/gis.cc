// GIS, the generalized interleaved schedule, and GIS-H: interleaved stages with the backward split,
// each W right behind its I, and a shorter warm-up that groups of g microbatches allow.
//
//   P = 2, g = 2   rank 0  F0₀ F0₁ F2₀ F2₁ .  I2₀ W2₀ F0₂ I2₁ W2₁ F0₃ I0₀ …
//                  rank 1      F1₀ F1₁ F3₀ I3₀ W3₀ F3₁ …       rank r: g(v-1)+P-1-r forwards, then
//                  F I W
//
// g from ⌈P/2⌉ (GIS-H) to P (GIS, the default): g(v-1)+P stage activations on rank 0, and
// (P-g)(v-1) more slots of bubble than GIS. The smaller bound grows where forwards, or backwards,
// take more than half of a stage's time: a group must last as long as the way through the pipe.
// A last group short of microbatches keeps its place in the pattern.
// Wan et al., "PipeOffload: Improving Scalability of Pipeline Parallelism with Memory
// Optimization", ICML 2025.
#include <algorithm>

#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

int least_group(int ranks, const Costs& costs) {
  double slowest = 0;
  double forwards = 0;
  double backwards = 0;
  for (int stage = 0; stage < ranks; ++stage) {
    const double f = Costs::of_stage(costs.forward, stage);
    const double b = Costs::of_stage(costs.backward_input, stage);
    slowest = std::max(slowest, f + b + Costs::of_stage(costs.backward_weight, stage));
    forwards += f;
    backwards += b;
  }
  int group = (ranks + 1) / 2;
  while (group < ranks && slowest * group < std::max(forwards, backwards)) ++group;
  return group;
}

int group_of(const GeneratorOptions& options) {
  return options.group_size == 0 ? options.ranks : options.group_size;
}

}  // namespace

Refusal gis_rule(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int least = least_group(ranks, options.costs);
  const int group = group_of(options);
  return unless(group >= least && group <= ranks, "gis needs group_size from ", least,
                " to ranks = ", ranks, ", given ", group, "; the nearest that works is ",
                std::clamp(group, least, ranks));
}

Schedule grouped_interleaved(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int chunks = options.stages_per_rank;
  Schedule schedule = empty_schedule("gis", loop_placement(ranks, chunks), options);
  const int group = group_of(options);

  const int groups = (options.microbatches + group - 1) / group;
  auto microbatch = [&](int k) { return k / (group * chunks) * group + k % group; };
  auto chunk = [&](int k) { return k / group % chunks; };
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    auto put = [&](Kind kind, int of_chunk, int m) {
      if (m < options.microbatches) list.push_back({kind, of_chunk * ranks + rank, m});
    };
    one_by_one(
        groups * group * chunks, group * (chunks - 1) + ranks - 1 - rank,
        [&](int k) { put(Kind::Forward, chunk(k), microbatch(k)); },
        [&](int k) {
          put(Kind::BackwardInput, chunks - 1 - chunk(k), microbatch(k));
          put(Kind::BackwardWeight, chunks - 1 - chunk(k), microbatch(k));
        });
  }
  return schedule;
}

}  // namespace headrace
