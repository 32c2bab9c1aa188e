// Interleaved 1F1B: v stages a rank, dealt round, so that the bubble shrinks v-fold and the
// communication grows v-fold.
//
//   rank 0  F0₀ F0₁ F2₀ F2₁ F0₂ B2₀ F0₃ B2₁ …     stage s on rank s mod P
//   rank 1      F1₀ F1₁ F3₀ B3₀ F3₁ B3₁ F1₂ …     rank r: (v-1)·G + 2(P-1-r) forwards, then by
//   turns
//
// Microbatches go round in groups of G = M / R, where R = max(1, ⌊M/P⌋) must divide M. With P | M
// this is G = P, Megatron's schedule; the wider rule is PyTorch's.
// Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
// Megatron-LM", SC 2021. Bubble (P-1)(F+B)/v.
#include <algorithm>

#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

int rounds_of(int ranks, int microbatches) {
  return std::max(1, microbatches / ranks);
}

bool divides(int ranks, int microbatches) {
  return microbatches % rounds_of(ranks, microbatches) == 0;
}

}  // namespace

Refusal interleaved_rule(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int microbatches = options.microbatches;
  int below = microbatches;
  int above = microbatches;
  while (!divides(ranks, below)) --below;
  while (!divides(ranks, above)) ++above;
  return unless(below == microbatches,
                "interleaved needs microbatches that max(1, microbatches / ranks) = ",
                rounds_of(ranks, microbatches), " divides: ", microbatches, " over ", ranks,
                " ranks are not", nearest_sizes(below, above));
}

Schedule interleaved(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  const int chunks = options.stages_per_rank;
  Schedule schedule = empty_schedule("interleaved", loop_placement(ranks, chunks), options);
  const int group = options.microbatches / rounds_of(ranks, options.microbatches);

  // The k-th of a rank's M·v forwards, or backwards with the stages in reverse.
  auto microbatch = [&](int k) { return k / (group * chunks) * group + k % group; };
  auto chunk = [&](int k) { return k / group % chunks; };
  for (int rank = 0; rank < ranks; ++rank) {
    auto& list = list_of(schedule, rank);
    one_by_one(
        options.microbatches * chunks, (chunks - 1) * group + 2 * (ranks - 1 - rank),
        [&](int k) { list.push_back(forward(chunk(k) * ranks + rank, microbatch(k))); },
        [&](int k) {
          list.push_back(backward((chunks - 1 - chunk(k)) * ranks + rank, microbatch(k)));
        });
  }
  return schedule;
}

}  // namespace headrace
