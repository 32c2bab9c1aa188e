// The V: a rank r of P holds stage r and stage 2P-1-r, so that a microbatch passes it four times.
//
//   pass 0  forward of stage r           down the ranks, 0 → P-1
//   pass 1  forward of stage 2P-1-r      up again
//   pass 2  backward of stage 2P-1-r     down
//   pass 3  backward of stage r          up
//   pass 4, 5  the weight gradients of passes 2 and 3, which nobody waits for
//
// What the V schedules share.
#pragma once

#include "headrace/schedule/generators/construct.h"

namespace headrace::v_shape {

constexpr int kPasses = 4;
constexpr int kWithWeights = 6;

constexpr bool is_weight(int pass) {
  return pass >= kPasses;
}
constexpr bool is_forward(int pass) {
  return pass < 2;
}

// The rank that does the same pass of a microbatch before this one; -1 where the pass begins here,
// after the pass before it on the same rank.
constexpr int source(int pass, int rank, int ranks) {
  if (pass % 2 == 0) return rank - 1;
  return rank + 1 < ranks ? rank + 1 : -1;
}

constexpr int stage_of(int pass, int rank, int ranks) {
  const bool far = pass == 1 || pass == 2 || pass == 4;
  return far ? 2 * ranks - 1 - rank : rank;
}

constexpr Action action(int pass, int rank, int ranks, int microbatch) {
  const int stage = stage_of(pass, rank, ranks);
  if (is_forward(pass)) return forward(stage, microbatch);
  return is_weight(pass) ? backward_weight(stage, microbatch) : backward_input(stage, microbatch);
}

}  // namespace headrace::v_shape
