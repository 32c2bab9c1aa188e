// From a building block to a schedule of the V: repeat it for every microbatch, squeeze the idle
// slots out, reorder warm-up and cool-down without raising the peak.
//
// A block says in which of six slots each of a rank's six passes lies (v_shape.h); the next
// microbatch's lie six slots on. All actions take one slot here; real costs come later.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "headrace/schedule/generators/v_shape.h"

namespace headrace::v_block {

constexpr int kPeriod = 6;
constexpr int kIdle = -1;

// The slot, modulo six, of each pass on one rank.
using Pattern = std::array<int, v_shape::kWithWeights>;

// What each rank does, slot by slot: a pass or kIdle. The k-th of a pass is microbatch k's.
using Grid = std::vector<std::vector<int>>;

// The most activations on any rank.
int peak_of(const Grid& grid);

// The most activations on any rank once the block repeats without end: the same as
// peak_of(repeat()) for more microbatches than a block is long, without building it.
int steady_peak(const std::vector<Pattern>& block);

// The block repeated: microbatch 0's passes in the order of the V, each in its first slot after the
// one before it.
Grid repeat(const std::vector<Pattern>& block, int microbatches);

// Every action as early as the order on each rank allows; nothing where the order cannot run.
std::optional<Grid> squeeze(const Grid& grid);

// The warm-up, up to each rank's first pass 3, in its densest form for this peak.
void pack_warm_up(Grid& grid);

// The cool-down, after rank 0's last pass 1, in its densest form for this peak; W's fill what is
// left. False where it does not fit.
bool pack_cool_down(Grid& grid, int microbatches);

// Drops the microbatches above the number wanted.
void keep_microbatches(Grid& grid, int microbatches);

// Moves the first W's of ranks below the peak to their end.
void postpone_weights(Grid& grid, int peak);

// Fills idle slots, from left to right, with the first later action of the rank that can come here
// and leaves the peak as it is.
void fill_idle(Grid& grid, int microbatches);

// Gives the W's to the backwards in the order these are done. False where a pass is not complete.
bool name_weights(Grid& grid, int microbatches);

}  // namespace headrace::v_block
