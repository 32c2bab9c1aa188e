#include "headrace/schedule/generators/v_block.h"

#include <algorithm>
#include <deque>
#include <limits>

namespace headrace::v_block {
namespace {

using v_shape::is_forward;
using v_shape::is_weight;
using v_shape::kPasses;
using v_shape::kWithWeights;

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

int change_of(int pass) {
  if (pass == kIdle) return 0;
  return is_forward(pass) ? 1 : (is_weight(pass) ? -1 : 0);
}

int peak_of(const std::vector<int>& row) {
  int held = 0;
  int peak = 0;
  for (const int pass : row) peak = std::max(peak, held += change_of(pass));
  return peak;
}

using Counts = std::array<int, kWithWeights>;

// Slots of what is placed so far, [rank][pass], and the checks on them.
struct Placed {
  explicit Placed(std::size_t ranks) : slots(ranks) {}

  // Whether the next microbatch of a pass has all it needs in slots before `slot`.
  bool ready(int rank, int pass, int slot) const {
    const auto& own = slots[at(rank)];
    const std::size_t next = own[at(pass)].size();
    if (is_weight(pass)) return own[at(pass - 2)].size() > next;
    const int source = v_shape::source(pass, rank, static_cast<int>(slots.size()));
    if (source < 0) return pass == 0 || own[at(pass - 1)].size() > next;
    const auto& sent = slots[at(source)][at(pass)];
    return sent.size() > next && sent[next] < slot;
  }

  // The first slot after the input of the next microbatch of a pass, given that it is there.
  int after_input(int rank, int pass) const {
    const int source =
        is_weight(pass) ? -1 : v_shape::source(pass, rank, static_cast<int>(slots.size()));
    return source < 0 ? 0 : slots[at(source)][at(pass)][slots[at(rank)][at(pass)].size()] + 1;
  }

  std::vector<std::array<std::vector<int>, kWithWeights>> slots;
};

// The slots of microbatch 0: each pass in its first slot after the one before it, each W in its
// first after its backward.
std::vector<Pattern> first_slots(const std::vector<Pattern>& block) {
  const int ranks = static_cast<int>(block.size());
  std::vector<Pattern> first(block.size());
  int slot = 0;
  auto put = [&](int rank, int pass) {
    const int phase = block[at(rank)][at(pass)];
    return first[at(rank)][at(pass)] = slot + ((phase - slot) % kPeriod + kPeriod) % kPeriod;
  };
  for (int pass = 0; pass < kPasses; ++pass)
    for (int i = 0; i < ranks; ++i) {
      const int rank = pass % 2 == 0 ? i : ranks - 1 - i;
      slot = put(rank, pass) + 1;
      if (!is_forward(pass)) put(rank, pass + 2);
    }
  return first;
}

}  // namespace

int peak_of(const Grid& grid) {
  int peak = 0;
  for (const auto& row : grid) peak = std::max(peak, peak_of(row));
  return peak;
}

int steady_peak(const std::vector<Pattern>& block) {
  int peak = 0;
  for (const Pattern& slots : first_slots(block)) {
    const int late = std::ranges::max(slots);
    for (int slot = late; slot < late + kPeriod; ++slot) {
      auto done = [&](std::size_t pass) { return (slot - slots[pass]) / kPeriod; };
      peak = std::max(peak, done(0) - done(5) + done(1) - done(4));
    }
  }
  return peak;
}

Grid repeat(const std::vector<Pattern>& block, int microbatches) {
  const int ranks = static_cast<int>(block.size());
  const int length = kPeriod * (4 * ranks + microbatches + 1);
  Grid grid(block.size(), std::vector<int>(at(length), kIdle));
  const std::vector<Pattern> first = first_slots(block);
  for (int rank = 0; rank < ranks; ++rank)
    for (int pass = 0; pass < kWithWeights; ++pass)
      for (int m = 0; m < microbatches; ++m)
        grid[at(rank)][at(first[at(rank)][at(pass)] + kPeriod * m)] = pass;
  return grid;
}

std::optional<Grid> squeeze(const Grid& grid) {
  const int ranks = static_cast<int>(grid.size());
  Placed placed(grid.size());
  Grid squeezed(grid.size());
  std::size_t length = 0;
  for (const auto& row : grid) length = std::max(length, row.size());
  // In each slot downward passes first, so that what a slot sends down is known to the ranks below.
  auto place = [&](int rank, std::size_t slot, int parity) {
    if (slot >= grid[at(rank)].size()) return true;
    const int pass = grid[at(rank)][slot];
    if (pass == kIdle || pass % 2 != parity) return true;
    if (!is_weight(pass) && !placed.ready(rank, pass, std::numeric_limits<int>::max()))
      return false;
    auto& row = squeezed[at(rank)];
    row.resize(std::max(row.size(), at(placed.after_input(rank, pass))), kIdle);
    placed.slots[at(rank)][at(pass)].push_back(static_cast<int>(row.size()));
    row.push_back(pass);
    return true;
  };
  for (std::size_t slot = 0; slot < length; ++slot) {
    for (int rank = 0; rank < ranks; ++rank)
      if (!place(rank, slot, 0)) return std::nullopt;
    for (int rank = ranks - 1; rank >= 0; --rank)
      if (!place(rank, slot, 1)) return std::nullopt;
  }
  length = 0;
  for (const auto& row : squeezed) length = std::max(length, row.size());
  for (auto& row : squeezed) row.resize(length, kIdle);
  return squeezed;
}

void pack_warm_up(Grid& grid) {
  const int ranks = static_cast<int>(grid.size());
  const int peak = std::min(peak_of(grid), 2 * ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    auto& row = grid[at(rank)];
    Counts left{};
    for (int& pass : row) {
      if (pass == 3) break;
      if (pass != kIdle) ++left[at(pass)];
      pass = kIdle;
    }
    std::size_t slot = at(rank);
    auto put = [&](int pass, bool wanted) {
      if (wanted && left[at(pass)] > 0 && slot < row.size()) {
        row[slot] = pass;
        --left[at(pass)];
      }
      ++slot;
    };
    // Before the first backward: as many of pass 1 as have come back by then, the rest of pass 0.
    int far = std::min(rank + 1, peak / 2);
    int near = peak - far;
    for (int i = 0; i < 2 * (ranks - 1 - rank); ++i) put(0, near-- > 0);
    for (int i = 0; i <= rank; ++i) {
      put(0, near-- > 0);
      put(1, far-- > 0);
    }
    while (left[0] + left[1] + left[2] + left[4] > 0 && slot < row.size()) {
      put(2, true);
      put(4, true);
      put(left[1] > 0 ? 1 : 0, true);
    }
  }
}

void keep_microbatches(Grid& grid, int microbatches) {
  for (auto& row : grid) {
    Counts seen{};
    for (int& pass : row)
      if (pass != kIdle && ++seen[at(pass)] > microbatches) pass = kIdle;
  }
}

void postpone_weights(Grid& grid, int peak) {
  std::size_t length = grid[0].size();
  for (auto& row : grid) {
    const int spare = peak - peak_of(row);
    std::vector<int> late;
    for (int& pass : row) {
      if (static_cast<int>(late.size()) >= spare) break;
      if (pass != kIdle && is_weight(pass)) late.push_back(std::exchange(pass, kIdle));
    }
    row.insert(row.end(), late.begin(), late.end());
    length = std::max(length, row.size());
  }
  for (auto& row : grid) row.resize(length, kIdle);
}

bool name_weights(Grid& grid, int microbatches) {
  for (auto& row : grid) {
    std::deque<int> due;
    Counts seen{};
    for (int& pass : row) {
      if (pass == kIdle) continue;
      if (pass == 2 || pass == 3) due.push_back(pass + 2);
      if (is_weight(pass)) {
        if (due.empty()) return false;
        pass = due.front();
        due.pop_front();
      }
      ++seen[at(pass)];
    }
    if (std::ranges::any_of(seen, [&](int count) { return count != microbatches; })) return false;
  }
  return true;
}

}  // namespace headrace::v_block
