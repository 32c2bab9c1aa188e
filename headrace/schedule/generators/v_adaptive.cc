// V-adaptive: the best schedule of the V that a search over building blocks finds for given costs
// and any memory limit, from V-Min's third of 1F1B's activations up to ZB-V's whole.
//
//   block of rank 0        0F . 1F . …      six slots: 60 orders of the four passes, W's in what is
//   left; next rank              passes 0 and 2 d slots later, 1 and 3 one earlier; d one of 1 … 5
//   on the
//                          first ranks, one no larger on the rest
//
// Each block is repeated, squeezed and reordered (v_block.h); the fastest under the limit wins.
// Qi et al., "Pipeline Parallelism with Controllable Memory", NeurIPS 2024, section 4. For F = I =
// W and k stage activations, bubble 3P-1-3k + max(3P, P-1+2(1+⌈k/2⌉)).
//
// With many microbatches the middle of a schedule is its block over and over: blocks are then first
// compared at fewer, with what each microbatch more would take, and only the best few built whole.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/schedule/generators/orders.h"
#include "headrace/schedule/generators/v_block.h"

namespace headrace {
namespace {

using v_block::Grid;
using v_block::kPeriod;
using v_block::Pattern;

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

// Puts each W into the first free slot after its backward.
void add_weights(Pattern& pattern) {
  std::array<bool, kPeriod> taken{};
  for (std::size_t pass = 0; pass < v_shape::kPasses; ++pass) taken[at(pattern[pass])] = true;
  for (std::size_t pass = v_shape::kPasses; pass < pattern.size(); ++pass) {
    int slot = pattern[pass - 2];
    while (taken[at(slot)]) slot = (slot + 1) % kPeriod;
    taken[at(slot)] = true;
    pattern[pass] = slot;
  }
}

std::vector<Pattern> first_patterns() {
  std::vector<Pattern> patterns;
  for (int far = 1; far < kPeriod; ++far)
    for (int back = 1; back < kPeriod; ++back)
      for (int last = 1; last < kPeriod; ++last) {
        if (far == back || far == last || back == last) continue;
        Pattern pattern = {0, far, back, last, 0, 0};
        add_weights(pattern);
        patterns.push_back(pattern);
      }
  return patterns;
}

// The block whose ranks up to `bend` are `early` slots apart and the rest `late`; empty where two
// passes of a rank would fall on one slot.
std::vector<Pattern> block_of(const Pattern& first, int early, int late, int bend, int ranks) {
  std::vector<Pattern> block = {first};
  for (int rank = 1; rank < ranks; ++rank) {
    const int down = rank <= bend ? early : late;
    Pattern pattern = block.back();
    std::array<bool, kPeriod> taken{};
    for (std::size_t pass = 0; pass < v_shape::kPasses; ++pass) {
      pattern[pass] = (pattern[pass] + (pass % 2 == 0 ? down : kPeriod - 1)) % kPeriod;
      if (std::exchange(taken[at(pattern[pass])], true)) return {};
    }
    add_weights(pattern);
    block.push_back(pattern);
  }
  return block;
}

struct Attempt {
  Grid grid;  // empty where there is none
  int peak = 0;
};

// FNV-1a over what the ranks do, and the peak.
std::uint64_t fingerprint(const Grid& grid, int peak) {
  std::uint64_t hash = 0xcbf29ce484222325;
  auto mix = [&](int value) { hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100000001b3; };
  mix(peak);
  for (const auto& row : grid) {
    for (const int pass : row) mix(pass + 1);
    mix(7);
  }
  return hash;
}

// From a packed warm-up to the whole schedule of `microbatches`, out of the `repeated` there are.
Attempt finish(Grid grid, int peak, int microbatches, int repeated, int limit) {
  const int ranks = static_cast<int>(grid.size());
  // False where the order cannot run.
  const auto squeeze = [&grid] {
    std::optional<Grid> squeezed = v_block::squeeze(grid);
    if (squeezed) grid = std::move(*squeezed);
    return squeezed.has_value();
  };
  if (microbatches < repeated) {
    const int packed = v_block::peak_of(grid);
    v_block::keep_microbatches(grid, microbatches);
    if (microbatches <= ranks && 2 * microbatches <= limit)
      v_block::postpone_weights(grid, std::min(2 * ranks, packed));
    if (!squeeze()) return {{}, packed};
    peak = v_block::peak_of(grid);
    if (peak > limit) return {{}, peak};
  }
  if (!v_block::pack_cool_down(grid, microbatches) || !squeeze()) return {{}, peak};
  v_block::fill_idle(grid, microbatches);
  if (!v_block::name_weights(grid, microbatches) || v_block::peak_of(grid) > peak)
    return {{}, peak};
  const int now = v_block::peak_of(grid);
  return {std::move(grid), now};
}

// `known` keeps the peaks of what was built before: many blocks are the same once their warm-up is
// packed, and need no second building.
Attempt build(const std::vector<Pattern>& block,
              int microbatches,
              bool settles,
              int limit,
              std::unordered_map<std::uint64_t, int>& known) {
  const int ranks = static_cast<int>(block.size());
  // The pattern needs room to settle; what is more than wanted goes afterwards.
  const int repeated = std::max(microbatches, 2 * ranks);
  // Most blocks hold too much: a block is no longer than 4P periods, so this is their peak.
  if (settles)
    if (const int steady = v_block::steady_peak(block); steady > limit) return {{}, steady};
  Grid grid = v_block::repeat(block, repeated);
  const int peak = v_block::peak_of(grid);
  if ((microbatches == repeated && peak > limit) || peak > 2 * ranks) return {{}, peak};
  auto packed = v_block::squeeze(grid);
  if (!packed) return {{}, peak};
  v_block::pack_warm_up(*packed);
  packed = v_block::squeeze(*packed);
  if (!packed || v_block::peak_of(*packed) > peak) return {{}, peak};
  const auto [seen, fresh] = known.try_emplace(fingerprint(*packed, peak), 0);
  if (!fresh) return {{}, seen->second};
  Attempt attempt = finish(std::move(*packed), peak, microbatches, repeated, limit);
  seen->second = attempt.peak;
  return attempt;
}

// The longest rank at real costs; infinite where the order cannot run.
class Clock {
 public:
  Clock(const Costs& costs, int ranks, int microbatches)
      : ranks_(ranks), transfer_(transfer_time(costs)), time_(at(ranks)), ends_(at(ranks)) {
    for (int rank = 0; rank < ranks; ++rank)
      for (int pass = 0; pass < v_shape::kWithWeights; ++pass) {
        const StageTimes times = times_of(costs, v_shape::stage_of(pass, rank, ranks));
        time_[at(rank)][at(pass)] = v_shape::is_forward(pass)  ? times.forward
                                    : v_shape::is_weight(pass) ? times.backward_weight
                                                               : times.backward_input;
        ends_[at(rank)][at(pass)].reserve(at(microbatches));
      }
  }

  double longest(const Grid& grid) {
    return run(grid) ? longest_ : std::numeric_limits<double>::infinity();
  }

  // As longest(), for `more` microbatches in addition.
  double extended(const Grid& grid, int more) {
    if (!run(grid)) return std::numeric_limits<double>::infinity();
    const auto& ends = ends_[0][3];  // rank 0's last backwards: one a microbatch
    const std::size_t half = ends.size() / 2;
    const std::size_t quarter = half / 2;
    return longest_ + more * (ends[half] - ends[quarter]) / static_cast<double>(half - quarter);
  }

 private:
  // False where the order cannot run.
  bool run(const Grid& grid) {
    std::vector<std::size_t> position(grid.size(), 0);
    std::vector<double> now(grid.size(), 0);
    std::vector<double> started(grid.size(), -1);
    for (auto& of_rank : ends_)
      for (auto& of_pass : of_rank) of_pass.clear();
    for (bool moved = true; std::exchange(moved, false);)
      for (int rank = 0; rank < ranks_; ++rank)
        while (step(grid, rank, position[at(rank)], now[at(rank)], started[at(rank)])) moved = true;
    longest_ = 0;
    for (std::size_t rank = 0; rank < grid.size(); ++rank) {
      if (position[rank] < grid[rank].size()) return false;
      longest_ = std::max(longest_, now[rank] - started[rank]);
    }
    return true;
  }

  // One action of a rank, if it can be done; idle slots are passed over.
  bool step(const Grid& grid, int rank, std::size_t& position, double& now, double& started) {
    const auto& row = grid[at(rank)];
    while (position < row.size() && row[position] == v_block::kIdle) ++position;
    if (position == row.size()) return false;
    const auto pass = at(row[position]);
    auto& own = ends_[at(rank)];
    double start = now;
    const int source =
        v_shape::is_weight(row[position]) ? -1 : v_shape::source(row[position], rank, ranks_);
    if (source >= 0) {
      const auto& sent = ends_[at(source)][pass];
      if (sent.size() <= own[pass].size()) return false;
      start = std::max(start, sent[own[pass].size()] + transfer_);
    } else if (pass > 0) {
      const std::size_t before = v_shape::is_weight(row[position]) ? pass - 2 : pass - 1;
      if (own[before].size() <= own[pass].size()) return false;
    }
    if (started < 0) started = start;
    now = start + time_[at(rank)][pass];
    own[pass].push_back(now);
    ++position;
    return true;
  }

  int ranks_;
  double transfer_;
  double longest_ = 0;
  std::vector<std::array<double, v_shape::kWithWeights>> time_;
  std::vector<std::array<std::vector<double>, v_shape::kWithWeights>> ends_;
};

// The stage activations that every rank may hold.
int count_limit(const GeneratorOptions& options) {
  int limit = 2 * options.ranks;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const double one =
        std::max(Costs::of_stage(options.costs.memory_forward, rank),
                 Costs::of_stage(options.costs.memory_forward, 2 * options.ranks - 1 - rank));
    const double count = one > 0 ? std::floor(memory_limit_of(options, rank) / one) : limit;
    limit = static_cast<int>(std::min<double>(limit, count));
  }
  return limit;
}

// One rank: the V is a line of two stages, and nothing waits.
Grid alone(int microbatches) {
  std::vector<int> row;
  for (int m = 0; m < microbatches; ++m) row.insert(row.end(), {0, 1, 2, 4, 3, 5});
  return {row};
}

// Calls visit(block) for every block, until it says that no later bend is of use.
template <class Visit>
void each_block(int ranks, Visit&& visit) {
  for (const Pattern& first : first_patterns())
    for (int early = 1; early < kPeriod; ++early)
      for (int late = 1; late <= early; ++late)
        // With the same distance throughout, the bend changes nothing.
        for (int bend = 1; bend < (early == late ? 2 : ranks); ++bend) {
          const std::vector<Pattern> block = block_of(first, early, late, bend, ranks);
          if (!block.empty() && !visit(block)) break;
        }
}

// The schedule of the best block; empty where none keeps the limit.
Grid best_of_blocks(const GeneratorOptions& options, int limit) {
  constexpr std::size_t kFinalists = 8;
  const int ranks = options.ranks;
  const int microbatches = options.microbatches;
  const int compared = std::min(microbatches, 3 * ranks);
  const bool settles = microbatches > 4 * ranks + 1;
  Clock clock(options.costs, ranks, microbatches);
  std::unordered_map<std::uint64_t, int> known;
  std::vector<std::pair<double, std::vector<Pattern>>> finalists;  // the best first
  each_block(ranks, [&](const std::vector<Pattern>& block) {
    const Attempt attempt = build(block, compared, settles, limit, known);
    if (attempt.grid.empty()) return attempt.peak <= limit;
    const double time = clock.extended(attempt.grid, microbatches - compared);
    const auto place =
        std::ranges::upper_bound(finalists, time, {}, [](const auto& each) { return each.first; });
    finalists.insert(place, {time, block});
    if (finalists.size() > kFinalists) finalists.pop_back();
    return attempt.peak <= limit;
  });
  Grid best;
  double best_time = std::numeric_limits<double>::infinity();
  for (const auto& [estimate, block] : finalists) {
    known.clear();
    Attempt attempt = build(block, microbatches, settles, limit, known);
    if (attempt.peak > limit || attempt.grid.empty()) continue;
    const double time = clock.longest(attempt.grid);
    if (time >= best_time) continue;
    best_time = time;
    best = std::move(attempt.grid);
  }
  return best;
}

}  // namespace

Made v_adaptive(const GeneratorOptions& options) {
  const int ranks = options.ranks;
  Schedule schedule = empty_schedule("v-adaptive", v_placement(ranks), options);
  const int limit = count_limit(options);
  const Grid best = ranks == 1 ? (limit >= 2 ? alone(options.microbatches) : Grid{})
                               : best_of_blocks(options, limit);
  if (best.empty())
    return {.refusal =
                cat("v-adaptive finds no block that holds ", limit,
                    " stage activations a rank; V-Min, the least, holds ", 2 * ((ranks + 4) / 3))};

  for (int rank = 0; rank < ranks; ++rank) {
    std::array<int, v_shape::kWithWeights> done{};
    for (const int pass : best[at(rank)])
      if (pass != v_block::kIdle)
        list_of(schedule, rank).push_back(v_shape::action(pass, rank, ranks, done[at(pass)]++));
  }
  return {.schedule = std::move(schedule)};
}

}  // namespace headrace
