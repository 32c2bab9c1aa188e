// 1F1B-V: a V of two stages a rank without splitting the backward, for about two thirds of 1F1B's
// activations. One microbatch takes a slot a forward and two a backward; the block repeats every
// six.
//
//   P = 2   rank 0  0F0 .   0F1 3F0 …  3B0 …       forwards a slot apart down and up the V, then
//           rank 1      1F0 2F0 …      2B0 …       backwards two slots apart, three more in every
//                                                  third place, where forwards have to pass
//
// Then everything before the steady phase moves to the left: a backward to the first free pair of
// slots, a forward as far as the peak allows.
// Qi et al., "Pipeline Parallelism with Controllable Memory", NeurIPS 2024, appendix; the authors'
// fused-backward variant.
#include <algorithm>
#include <array>

#include "headrace/schedule/generators/orders.h"
#include "headrace/schedule/generators/v_shape.h"

namespace headrace {
namespace {

constexpr int kPeriod = 6;
constexpr int kIdle = -1;

// The first slot of each pass of microbatch 0, by rank. A backward fills the slot after it too.
std::vector<std::array<int, v_shape::kPasses>> building_block(int ranks) {
  std::vector<std::array<int, v_shape::kPasses>> starts(static_cast<std::size_t>(ranks));
  int slot = 0;
  for (int i = 0; i < ranks; ++i) starts[static_cast<std::size_t>(i)][0] = slot++;
  for (int i = ranks; i-- > 0;) starts[static_cast<std::size_t>(i)][1] = slot++;
  // Backwards of the way back take two slots of three; every third place is left for forwards.
  if (ranks % 3 == 0) slot += 3;
  int in_turn = (3 - (ranks + 2) % 3) % 3;
  auto next = [&] {
    const int start = slot;
    slot += 2;
    if (++in_turn == 3) {
      in_turn = 0;
      slot += 3;
    }
    return start;
  };
  for (int i = 0; i < ranks; ++i) starts[static_cast<std::size_t>(i)][2] = next();
  for (int i = ranks; i-- > 0;) starts[static_cast<std::size_t>(i)][3] = next();
  return starts;
}

struct Place {
  int slot;
  int rank;
  int pass;
  int microbatch;
  auto operator<=>(const Place&) const = default;
};

class Grid {
 public:
  Grid(int ranks, int microbatches) : ranks_(ranks), microbatches_(microbatches) {
    const auto starts = building_block(ranks);
    const int end = starts[0][3] + kPeriod * microbatches;
    for (int i = 0; i < ranks; ++i) {
      pass_.emplace_back(end, kIdle);
      held_.emplace_back(end, 0);
      slots_.emplace_back(v_shape::kPasses, std::vector<int>(at_size(microbatches)));
      for (int pass = 0; pass < v_shape::kPasses; ++pass)
        for (int m = 0; m < microbatches; ++m)
          put({starts[at_size(i)][at_size(pass)] + kPeriod * m, i, pass, m});
    }
    count_held();
  }

  // From left to right, each action to the left as far as order, room and peak allow.
  void squeeze() {
    for (const Place& place : in_order()) {
      const int earliest = last_dependency(place) + 1;
      const int slot = v_shape::is_forward(place.pass) ? room_for_forward(place, earliest)
                                                       : room_for_backward(place, earliest);
      if (slot < place.slot) move(place, slot);
    }
  }

  std::vector<Place> in_order() const {
    std::vector<Place> places;
    for (int i = 0; i < ranks_; ++i)
      for (int pass = 0; pass < v_shape::kPasses; ++pass)
        for (int m = 0; m < microbatches_; ++m)
          places.push_back({slots_[at_size(i)][at_size(pass)][at_size(m)], i, pass, m});
    std::ranges::sort(places);
    return places;
  }

 private:
  static std::size_t at_size(int i) { return static_cast<std::size_t>(i); }
  static int length(int pass) { return v_shape::is_forward(pass) ? 1 : 2; }

  bool idle(int rank, int slot) const { return pass_[at_size(rank)][at_size(slot)] == kIdle; }

  void put(const Place& place) {
    slots_[at_size(place.rank)][at_size(place.pass)][at_size(place.microbatch)] = place.slot;
    for (int k = 0; k < length(place.pass); ++k)
      pass_[at_size(place.rank)][at_size(place.slot + k)] = place.pass;
  }

  void count_held() {
    for (int i = 0; i < ranks_; ++i) {
      int held = 0;
      for (std::size_t slot = 0; slot < held_[at_size(i)].size(); ++slot) {
        const int pass = pass_[at_size(i)][slot];
        if (pass == 0 || pass == 1) ++held;
        // The second half of a backward frees the activation.
        if (pass >= 2 && slot > 0 && second_half(i, static_cast<int>(slot))) --held;
        held_[at_size(i)][slot] = held;
        peak_ = std::max(peak_, held);
      }
    }
  }

  bool second_half(int rank, int slot) const {
    const auto& of_pass = slots_[at_size(rank)][at_size(pass_[at_size(rank)][at_size(slot)])];
    return std::ranges::binary_search(of_pass, slot - 1);
  }

  // The last slot of all that an action waits for.
  int last_dependency(const Place& place) const {
    auto last_slot = [&](int rank, int pass, int m) {
      return slots_[at_size(rank)][at_size(pass)][at_size(m)] + length(pass) - 1;
    };
    int last = place.microbatch > 0 ? last_slot(place.rank, place.pass, place.microbatch - 1) : -1;
    const int source = v_shape::source(place.pass, place.rank, ranks_);
    if (source >= 0) return std::max(last, last_slot(source, place.pass, place.microbatch));
    if (place.pass > 0)
      last = std::max(last, last_slot(place.rank, place.pass - 1, place.microbatch));
    return last;
  }

  int room_for_backward(const Place& place, int slot) const {
    while (slot < place.slot && !(idle(place.rank, slot) && idle(place.rank, slot + 1))) ++slot;
    return slot;
  }

  // A forward goes back only while the slots it passes hold less than the peak.
  int room_for_forward(const Place& place, int earliest) const {
    while (earliest < place.slot && !idle(place.rank, earliest)) ++earliest;
    int slot = place.slot;
    while (slot > earliest && held_[at_size(place.rank)][at_size(slot - 1)] < peak_) --slot;
    while (slot < place.slot && !idle(place.rank, slot)) ++slot;
    return slot;
  }

  void move(const Place& place, int slot) {
    const int freed = v_shape::is_forward(place.pass) ? 0 : 1;
    for (int k = 0; k < length(place.pass); ++k)
      pass_[at_size(place.rank)][at_size(place.slot + k)] = kIdle;
    put({slot, place.rank, place.pass, place.microbatch});
    for (int s = slot + freed; s < place.slot + freed; ++s)
      held_[at_size(place.rank)][at_size(s)] += freed == 1 ? -1 : 1;
  }

  int ranks_;
  int microbatches_;
  int peak_ = 0;
  std::vector<std::vector<int>> pass_;                // [rank][slot]
  std::vector<std::vector<int>> held_;                // [rank][slot]: activations after it
  std::vector<std::vector<std::vector<int>>> slots_;  // [rank][pass][microbatch]
};

}  // namespace

Schedule one_f_one_b_v(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  Schedule schedule = empty_schedule("1f1b-v", v_placement(ranks), options);
  Grid grid(ranks, options.microbatches);
  grid.squeeze();
  for (const Place& place : grid.in_order()) {
    const int stage = v_shape::stage_of(place.pass, place.rank, ranks);
    list_of(schedule, place.rank)
        .push_back(v_shape::is_forward(place.pass) ? forward(stage, place.microbatch)
                                                   : backward(stage, place.microbatch));
  }
  return schedule;
}

}  // namespace headrace
