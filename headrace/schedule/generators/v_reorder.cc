// The two ends of a V schedule where a block's pattern leaves idle slots: the cool-down, and then
// every idle slot that a later action can fill.
#include <algorithm>
#include <bitset>
#include <iterator>

#include "headrace/schedule/generators/v_block.h"

namespace headrace::v_block {
namespace {

using v_shape::is_forward;
using v_shape::is_weight;
using v_shape::kWithWeights;

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

// Takes the last `most` of a pass out of a row; says how many there were.
int take_last(std::vector<int>& row, int wanted, int most) {
  int taken = 0;
  for (auto slot = row.rbegin(); slot != row.rend() && taken < most; ++slot) {
    if (*slot != wanted) continue;
    *slot = kIdle;
    ++taken;
  }
  return taken;
}

// Takes W's out from the end: as many as backwards were taken, and `least` in all.
void take_weights(std::vector<int>& row, int of_pass_2, int of_pass_3, int least) {
  int first = 0;
  int second = 0;
  for (auto slot = row.rbegin(); slot != row.rend(); ++slot) {
    if (first >= of_pass_2 && second >= of_pass_3 && first + second >= least) return;
    if (*slot == 4) ++first;
    if (*slot == 5) ++second;
    if (*slot == 4 || *slot == 5) *slot = kIdle;
  }
}

// Puts the W's that are due into idle slots behind the last one there is, and the rest at the end.
void return_weights(std::vector<int>& row) {
  const auto last = std::find_if(row.rbegin(), row.rend(),
                                 [](int pass) { return pass != kIdle && is_weight(pass); });
  const auto last_weight = std::distance(row.begin(), last.base()) - 1;
  int due_2 = 0;
  int due_3 = 0;
  for (std::size_t slot = 0; slot < row.size(); ++slot) {
    due_2 += (row[slot] == 2) - (row[slot] == 4);
    due_3 += (row[slot] == 3) - (row[slot] == 5);
    if (row[slot] != kIdle || static_cast<std::ptrdiff_t>(slot) <= last_weight) continue;
    if (due_2 > 0) {
      row[slot] = 4;
      --due_2;
    } else if (due_3 > 0) {
      row[slot] = 5;
      --due_3;
    }
  }
  row.insert(row.end(), at(std::max(0, due_2)), 4);
  row.insert(row.end(), at(std::max(0, due_3)), 5);
}

// Walks the slots of all ranks at once and fills the idle ones.
class Filler {
 public:
  Filler(Grid& grid, int microbatches)
      : grid_(grid),
        peak_(peak_of(grid)),
        held_(grid.size()),
        done_(grid.size()),
        slots_(grid.size()),
        last_(grid.size()) {
    for (std::size_t rank = 0; rank < grid.size(); ++rank) {
      last_[rank].fill(-1);
      for (std::size_t slot = 0; slot < grid[rank].size(); ++slot)
        if (grid[rank][slot] != kIdle) last_[rank][at(grid[rank][slot])] = static_cast<int>(slot);
      for (auto& of_pass : slots_[rank]) of_pass.assign(at(microbatches), -1);
    }
  }

  void run() {
    const int length = static_cast<int>(grid_[0].size());
    for (int slot = 0; slot < length; ++slot)
      for (int rank = 0; rank < static_cast<int>(grid_.size()); ++rank) {
        if (grid_[at(rank)][at(slot)] == kIdle) bring_forward(rank, slot);
        if (grid_[at(rank)][at(slot)] != kIdle) count(rank, slot);
      }
  }

 private:
  void count(int rank, int slot) {
    const int pass = grid_[at(rank)][at(slot)];
    slots_[at(rank)][at(pass)][at(done_[at(rank)][at(pass)]++)] = slot;
    if (is_forward(pass)) ++held_[at(rank)];
    if (is_weight(pass)) --held_[at(rank)];
  }

  // Looks along the rank's later slots, at the first action of each pass, for one that can come
  // here.
  void bring_forward(int rank, int slot) {
    auto& row = grid_[at(rank)];
    std::bitset<kWithWeights> untried;
    for (int pass = 0; pass < kWithWeights; ++pass)
      untried[at(pass)] = last_[at(rank)][at(pass)] > slot;
    int change = 0;  // in what is held, of the actions passed over
    int passed = 0;  // their peak
    for (std::size_t later = at(slot) + 1; later < row.size() && untried.any(); ++later) {
      const int pass = row[later];
      if (pass == kIdle) continue;
      const int before = passed;
      change += is_forward(pass) ? 1 : (is_weight(pass) ? -1 : 0);
      passed = std::max(passed, change);
      if (!untried[at(pass)]) continue;
      untried[at(pass)] = false;
      if (is_forward(pass) && held_[at(rank)] + before >= peak_) continue;
      if (!ready(rank, pass, slot)) continue;
      std::swap(row[at(slot)], row[later]);
      return;
    }
  }

  bool ready(int rank, int pass, int slot) const {
    const int next = done_[at(rank)][at(pass)];
    if (is_weight(pass)) return done_[at(rank)][at(pass - 2)] > next;
    const int source = v_shape::source(pass, rank, static_cast<int>(grid_.size()));
    if (source < 0) return pass == 0 || done_[at(rank)][at(pass - 1)] > next;
    const int sent = slots_[at(source)][at(pass)][at(next)];
    return sent >= 0 && sent < slot;
  }

  Grid& grid_;
  int peak_;
  std::vector<int> held_;
  std::vector<std::array<int, kWithWeights>> done_;
  std::vector<std::array<std::vector<int>, kWithWeights>> slots_;
  std::vector<std::array<int, kWithWeights>> last_;  // slot of the last of each pass, at first
};

}  // namespace

bool pack_cool_down(Grid& grid, int microbatches) {
  const int ranks = static_cast<int>(grid.size());
  const int peak = peak_of(grid);
  if (peak > 2 * ranks) return false;
  const int most_3 = std::min((peak + 1) / 2, microbatches);
  const int most_2 = std::min(peak - most_3, microbatches);
  int start = -1;
  std::size_t length = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    auto& row = grid[at(rank)];
    if (rank == 0)
      start = static_cast<int>(
                  std::distance(row.begin(), std::find(row.rbegin(), row.rend(), 1).base())) -
              1;
    const int second = take_last(row, 2, std::min(rank + 1, most_2));
    const int third = take_last(row, 3, most_3);
    take_weights(row, second, third, peak);
    // Pass 3 comes back to rank 0 every second slot, pass 2 goes down between.
    auto put = [&](int slot, int pass) {
      if (slot < 0 || at(slot) >= row.size()) return false;
      row[at(slot)] = pass;
      return true;
    };
    for (int k = 0; k < third; ++k)
      if (!put(start - rank + 2 * ranks - 2 * k, 3)) return false;
    for (int k = 0; k < second; ++k)
      if (!put(start + 1 + rank - 2 * k, 2)) return false;
  }
  for (auto& row : grid) {
    return_weights(row);
    length = std::max(length, row.size());
  }
  for (auto& row : grid) row.resize(length, kIdle);
  return true;
}

void fill_idle(Grid& grid, int microbatches) {
  Filler(grid, microbatches).run();
}

}  // namespace headrace::v_block
