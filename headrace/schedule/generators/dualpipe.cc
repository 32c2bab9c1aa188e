// DualPipe and DualPipeV: the forward of one microbatch and the backward of another run as one
// overlapped action, which hides the communication of experts inside the compute.
//
// DualPipe feeds P stages from both ends: even microbatches run down, odd ones up, and each rank
// holds two stages (two copies of the weights). DualPipeV folds the pipe instead: 2P stages in a V,
// one copy. Either way a rank has two streams, 0 (the one that reaches it first) and 1, and with H
// ranks on the way to the fold, h of them before this one, n microbatches a stream:
//
//   1  2(H-h-1) × F0          3  H-h-1 × I1 W F1       5  H-h-1 × B1 (F1 B0)      7  H-h-1 × W I0
//   2  h+1 × F0 F1            4  n-2H+h+1 × (F0 B1) (F1 B0)     6  h+1 × B1 B0    8  h+1 × W
//
//   P = 2, 4 microbatches   rank 0  0F0 1F1 0F2 1B1 (1F3 0B0) 1B3 0I2 0W2
//   (DualPipe)              rank 1  0F1 1F0 0F3 1B0 (1F2 0B1) 1B2 0I3 0W3
//
// Bubble (S/2-1)(F&B + B - 3W) for S stages, S+1 activations.
// DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024; DualPipeV after Qi et al.'s cut in half.
#include <algorithm>
#include <array>
#include <deque>

#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/generators/orders.h"

namespace headrace {
namespace {

// One rank's list in the making. Microbatch j of a stream is first[stream] + j · step.
class TwoStreams {
 public:
  TwoStreams(std::vector<Action>& list,
             std::array<int, 2> stage,
             std::array<int, 2> first,
             int step)
      : list_(list), stage_(stage), first_(first), step_(step) {}

  void f(int stream) { list_.push_back(forward(stage(stream), next(forwards_, stream))); }

  void b(int stream, bool split = false) {
    const int microbatch = next(backwards_, stream);
    if (!split) {
      list_.push_back(backward(stage(stream), microbatch));
      return;
    }
    list_.push_back(backward_input(stage(stream), microbatch));
    weights_.push_back(backward_weight(stage(stream), microbatch));
  }

  void overlapped(int forward_stream) {
    f(forward_stream);
    list_.back().overlaps_next = true;
    b(1 - forward_stream);
  }

  void w() {
    list_.push_back(weights_.front());
    weights_.pop_front();
  }

  // The eight steps. `half` ranks lead to the fold, `before` of them come before this one.
  void run(int half, int before, int microbatches) {
    const int after = half - before - 1;
    for (int i = 0; i < 2 * after; ++i) f(0);
    for (int i = 0; i <= before; ++i) f(0), f(1);
    for (int i = 0; i < after; ++i) b(1, true), w(), f(1);
    for (int i = 0; i < microbatches - 2 * half + before + 1; ++i) {
      if (i == 0 && after == 0)
        f(0), b(1);  // at the fold the first pair is not overlapped: its neighbour waits for it
      else
        overlapped(0);
      overlapped(1);
    }
    for (int i = 0; i < after; ++i) b(1), overlapped(1);
    // Half-way through the draining backwards the split begins: its W's fill what follows.
    const int middle = (before + 1) / 2;
    for (int i = 0; i <= before; ++i) {
      b(1, i > middle || (i == middle && before % 2 == 1));
      b(0, i >= middle);
    }
    for (int i = 0; i < after; ++i) w(), b(0, true);
    while (!weights_.empty()) w();
  }

 private:
  int stage(int stream) const { return stage_[static_cast<std::size_t>(stream)]; }
  int next(std::array<int, 2>& counts, int stream) {
    const auto s = static_cast<std::size_t>(stream);
    return first_[s] + step_ * counts[s]++;
  }

  std::vector<Action>& list_;
  std::array<int, 2> stage_;
  std::array<int, 2> first_;
  int step_;
  std::array<int, 2> forwards_{};
  std::array<int, 2> backwards_{};
  std::deque<Action> weights_;
};

}  // namespace

Refusal dualpipe_placement_rule(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  return unless(ranks % 2 == 0, "dualpipe needs an even number of ranks, given ", ranks,
                nearest_sizes(std::max(2, ranks - 1), ranks + 1));
}

Refusal dualpipe_rule(const GeneratorOptions& options) {
  const int microbatches = options.microbatches;
  const int least = 2 * options.ranks;
  return unless(microbatches % 2 == 0 && microbatches >= least,
                "dualpipe needs an even number of microbatches >= 2 x ranks = ", least, ", given ",
                microbatches, "; the nearest that works is ",
                std::max(least, microbatches + microbatches % 2));
}

Schedule dualpipe(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  Schedule schedule = empty_schedule("dualpipe", bidirectional_placement(ranks), options);
  for (int rank = 0; rank < ranks; ++rank) {
    const int mirror = ranks - 1 - rank;
    const int down = rank < mirror ? 0 : 1;  // the stream that even microbatches are
    const std::array<int, 2> stage = {std::min(rank, mirror), std::max(rank, mirror)};
    TwoStreams(list_of(schedule, rank), stage, {down, 1 - down}, 2)
        .run(ranks / 2, std::min(rank, mirror), options.microbatches / 2);
  }
  return schedule;
}

Refusal dualpipe_v_rule(const GeneratorOptions& options) {
  const int least = 2 * options.ranks;
  return unless(options.microbatches >= least,
                "dualpipe-v needs microbatches >= 2 x ranks = ", least, ", given ",
                options.microbatches, "; the nearest that works is ", least);
}

Schedule dualpipe_v(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  Schedule schedule = empty_schedule("dualpipe-v", v_placement(ranks), options);
  for (int rank = 0; rank < ranks; ++rank)
    TwoStreams(list_of(schedule, rank), {rank, 2 * ranks - 1 - rank}, {0, 0}, 1)
        .run(ranks, rank, options.microbatches);
  return schedule;
}

}  // namespace headrace
