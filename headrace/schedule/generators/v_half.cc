// V-Half and V-Min: a half and a third of 1F1B's activations, on a V of two stages a rank. A
// building block says when one microbatch's four passes start on each rank, in slots of one action;
// it repeats every six slots (two F, two I, two W), and its length in slots is the memory it holds.
//
//   V-Min,  rank r of P:   0F r      2P-1-r      back 2P+q+r        4P+q-1-r     q = 2 if 3 | P
//   else 0 V-Half, rank r of P:   0F 2r     3P-2-r      back 3P+q+2r-1     6P+q-2-r     q = 3 if 2
//   | P else 0
//
//   V-Min, P = 2   rank 0  0F0 .  .  3F0 3I0 3W0 0F1 0I0 0W0 3F1 …
//                  rank 1      1F0 2F0 2I0 1F1 1I0 2F1 2W0 1W0 …
//
// Repeated over M microbatches, the block leaves idle slots before and after the steady phase.
// Twice the actions outside that phase move to the earliest free slot that keeps order and peak
// memory: first with the W's in their slots, then with the W's taken out and put back into idle
// ones. Qi et al., "Pipeline Parallelism with Controllable Memory", NeurIPS 2024.
#include <algorithm>
#include <array>

#include "headrace/schedule/generators/orders.h"
#include "headrace/schedule/generators/v_shape.h"

namespace headrace {
namespace {

constexpr int kPeriod = 6;
constexpr int kIdle = -1;
// One queue for the W's of both stages, while it matters not whose they are.
constexpr int kJoined = 4;

// The slots of one rank: [pass][microbatch], each ascending.
using Slots = std::vector<std::vector<int>>;
using Block = std::array<int, v_shape::kPasses>;

struct Place {
  int slot;
  int rank;
  int pass;
  int microbatch;
  auto operator<=>(const Place&) const = default;
};

int last_slot(const Slots& slots) {
  int last = 0;
  for (const auto& of_pass : slots) last = std::max(last, of_pass.back());
  return last;
}

// Which pass holds each slot of a rank.
std::vector<int> timeline_of(const Slots& slots) {
  std::vector<int> passes(static_cast<std::size_t>(last_slot(slots)) + 1, kIdle);
  for (std::size_t pass = 0; pass < slots.size(); ++pass)
    for (const int slot : slots[pass])
      passes[static_cast<std::size_t>(slot)] = static_cast<int>(pass);
  return passes;
}

// Puts W's into the idle slots after their backwards: one queue for both stages, or, split, the
// queue of pass 2 before that of pass 3.
void add_weights(Slots& slots, bool split) {
  const std::vector<int> passes = timeline_of(slots);
  std::array<int, 2> due{};
  slots.resize(slots.size() + (split ? 2 : 1));
  auto put = [&](int slot) {
    for (std::size_t queue = 0; queue < 2; ++queue)
      if (due[queue] > 0) {
        slots[kJoined + queue].push_back(slot);
        --due[queue];
        return;
      }
  };
  int slot = 0;
  for (const int pass : passes) {
    if (pass == kIdle) put(slot);
    if (pass == 2 || pass == 3) ++due[split ? static_cast<std::size_t>(pass) - 2 : 0];
    ++slot;
  }
  for (; due[0] + due[1] > 0; ++slot) put(slot);
}

// The most activations a rank holds; without W's in the lists, an idle slot is taken to do one.
int peak_of(const Slots& slots) {
  const bool with_weights = slots.size() > v_shape::kPasses;
  int due = 0;
  int held = 0;
  int peak = 0;
  for (const int pass : timeline_of(slots)) {
    if (pass == 2 || pass == 3) ++due;
    if (pass == 0 || pass == 1) ++held;
    if (pass == kJoined) --held;
    if (pass == kIdle && !with_weights && due > 0) --due, --held;
    peak = std::max(peak, held);
  }
  return peak;
}

std::vector<Place> in_order(const std::vector<Slots>& ranks) {
  std::vector<Place> places;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    for (std::size_t pass = 0; pass < ranks[rank].size(); ++pass)
      for (std::size_t m = 0; m < ranks[rank][pass].size(); ++m)
        places.push_back({ranks[rank][pass][m], static_cast<int>(rank), static_cast<int>(pass),
                          static_cast<int>(m)});
  std::ranges::sort(places);
  return places;
}

// The latest slot that an action must come after: its source's, its own rank's pass before, the
// microbatch before. A W of the joined queue comes after as many backwards.
int latest_dependency(const std::vector<Slots>& ranks, const Place& place) {
  const auto rank = static_cast<std::size_t>(place.rank);
  const auto pass = static_cast<std::size_t>(place.pass);
  const auto m = static_cast<std::size_t>(place.microbatch);
  const Slots& own = ranks[rank];
  int latest = m > 0 ? own[pass][m - 1] : -1;
  if (place.pass == kJoined) {
    std::vector<int> backwards;
    std::ranges::merge(own[2], own[3], std::back_inserter(backwards));
    return std::max(latest, backwards[m]);
  }
  if (place.pass > 0) latest = std::max(latest, own[pass - 1][m]);
  const int source = v_shape::source(place.pass, place.rank, static_cast<int>(ranks.size()));
  if (source >= 0) latest = std::max(latest, ranks[static_cast<std::size_t>(source)][pass][m]);
  return latest;
}

// Moves one action to the earliest free slot that leaves the peak as it is.
void move_forward(std::vector<Slots>& ranks, const Place& place, int peak) {
  Slots& own = ranks[static_cast<std::size_t>(place.rank)];
  const std::vector<int> passes = timeline_of(own);
  int& slot = own[static_cast<std::size_t>(place.pass)][static_cast<std::size_t>(place.microbatch)];
  for (int s = latest_dependency(ranks, place) + 1; s < place.slot; ++s) {
    if (passes[static_cast<std::size_t>(s)] != kIdle) continue;
    slot = s;
    if (peak_of(own) <= peak) return;
  }
  slot = place.slot;
}

// Every action at the earliest slot that the order allows, at one slot an action.
std::vector<Slots> squeeze(const std::vector<Slots>& ranks) {
  std::vector<Slots> squeezed = ranks;
  std::vector<int> free(ranks.size(), 0);
  for (const Place& place : in_order(ranks)) {
    const auto rank = static_cast<std::size_t>(place.rank);
    int slot = free[rank];
    if (place.pass < v_shape::kPasses)
      slot = std::max(slot, latest_dependency(squeezed, place) + 1);
    squeezed[rank][static_cast<std::size_t>(place.pass)]
            [static_cast<std::size_t>(place.microbatch)] = slot;
    free[rank] = slot + 1;
  }
  return squeezed;
}

// The reordering. The steady phase, from rank 0's first last-pass backward to its last forward,
// stays as it is; so does the warm-up while the W's are out.
std::vector<Slots> reorder(std::vector<Slots> ranks, bool with_weights) {
  if (with_weights)
    for (Slots& slots : ranks) add_weights(slots, false);
  int peak = 0;
  for (const Slots& slots : ranks) peak = std::max(peak, peak_of(slots));
  const int last = static_cast<int>(ranks[0][0].size()) - 1;
  enum class Phase { WarmUp, Steady, CoolDown } phase = Phase::WarmUp;
  for (const Place& place : in_order(ranks)) {
    if (phase == Phase::WarmUp && place.pass == 3 && place.rank == 0) phase = Phase::Steady;
    if (phase == Phase::Steady) {
      if (place.pass == 0 && place.microbatch == last) phase = Phase::CoolDown;
      continue;
    }
    if (phase == Phase::WarmUp && !with_weights) continue;
    move_forward(ranks, place, peak);
  }
  if (!with_weights)
    for (Slots& slots : ranks) add_weights(slots, false);
  ranks = squeeze(ranks);
  for (Slots& slots : ranks) slots.resize(v_shape::kPasses);
  return ranks;
}

Schedule from_block(std::string_view name,
                    const GeneratorOptions& options,
                    Block (*block_of)(int rank, int ranks)) {
  Schedule schedule = empty_schedule(name, v_placement(options.ranks), options);
  std::vector<Slots> ranks;
  for (int rank = 0; rank < options.ranks; ++rank) {
    Slots slots(v_shape::kPasses);
    const Block block = block_of(rank, options.ranks);
    for (std::size_t pass = 0; pass < slots.size(); ++pass)
      for (int m = 0; m < options.microbatches; ++m)
        slots[pass].push_back(block[pass] + kPeriod * m);
    ranks.push_back(std::move(slots));
  }
  ranks = reorder(reorder(std::move(ranks), true), false);
  for (Slots& slots : ranks) add_weights(slots, true);
  for (const Place& place : in_order(ranks))
    list_of(schedule, place.rank)
        .push_back(v_shape::action(place.pass, place.rank, options.ranks, place.microbatch));
  return schedule;
}

}  // namespace

Schedule v_half(const GeneratorOptions& options) {
  return from_block("v-half", options, [](int rank, int ranks) -> Block {
    const int gap = ranks % 2 == 0 ? 3 : 0;
    return {2 * rank, 3 * ranks - rank - 2, 3 * ranks + gap + 2 * rank - 1,
            6 * ranks + gap - rank - 2};
  });
}

Schedule v_min(const GeneratorOptions& options) {
  return from_block("v-min", options, [](int rank, int ranks) -> Block {
    const int gap = ranks % 3 == 0 ? 2 : 0;
    return {rank, 2 * ranks - rank - 1, 2 * ranks + gap + rank, 4 * ranks + gap - rank - 1};
  });
}

}  // namespace headrace
