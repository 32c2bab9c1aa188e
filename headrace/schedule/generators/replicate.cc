#include "headrace/schedule/generators/replicate.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/generators/construct.h"

namespace headrace {
namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

// How many of `microbatches` replica k of r does.
int share(int microbatches, int k, int r) {
  return (microbatches - k + r - 1) / r;
}

bool all_alike(const std::vector<int>& replicas) {
  return std::ranges::all_of(replicas, [&](int r) { return r == replicas[0]; });
}

void require_replicas(const GeneratorOptions& options, const std::vector<int>& replicas) {
  constexpr double kMostRanks = 1 << 26;
  check_usage(!replicas.empty(), "replicas is empty; give one number, or one a stage");
  for (const int r : replicas)
    check_usage(r >= 1, "replicas holds ", r, "; each must be 1 or more");
  check_usage(replicas.size() == 1 || at(options.ranks) == replicas.size(), "replicas names ",
              replicas.size(), " stages, and there are ", options.ranks,
              "; give one number for all, or one a stage");
  const double ranks = std::accumulate(replicas.begin(), replicas.end(), 0.0) *
                       (replicas.size() == 1 ? std::max(1, options.ranks) : 1);
  check_usage(ranks <= kMostRanks, "replicas makes ", ranks, " ranks; there are at most ",
              kMostRanks);
}

// Rank p's replica k is rank p·r + k.
Placement side_by_side(const Placement& one, int replicas) {
  Placement all;
  all.ranks = one.ranks * replicas;
  for (const std::vector<int>& here : one.owners) {
    auto& owners = all.owners.emplace_back();
    for (const int rank : here)
      for (int k = 0; k < replicas; ++k) owners.push_back(rank * replicas + k);
  }
  return all;
}

// The ranks of a stage follow one another.
Placement stage_by_stage(const std::vector<int>& replicas) {
  Placement placement;
  for (const int r : replicas) {
    auto& owners = placement.owners.emplace_back();
    for (int k = 0; k < r; ++k) owners.push_back(placement.ranks++);
  }
  return placement;
}

// Pipeline k of r does the microbatches k, k + r, …; its own microbatch i is i·r + k of all.
Schedule pipelines(std::string_view name,
                   const GeneratorOptions& options,
                   Placement placement,
                   int replicas) {
  Schedule all;
  all.ranks.resize(at(placement.ranks));
  all.placement = std::move(placement);
  for (int k = 0; k < replicas; ++k) {
    GeneratorOptions own = options;
    own.microbatches = share(options.microbatches, k, replicas);
    const Schedule one = generate(name, own);
    check_usage(one.sequence_splits == 1, name,
                " splits sequences, and its pipelines cannot be replicated");
    all.name = one.name;
    all.microbatches += one.microbatches;
    for (int p = 0; p < one.placement.ranks; ++p)
      for (Action action : one.ranks[at(p)]) {
        if (action.microbatch >= 0) action.microbatch = action.microbatch * replicas + k;
        all.ranks[at(p * replicas + k)].push_back(action);
      }
  }
  return all;
}

Schedule replicated_stages(std::string_view name,
                           const GeneratorOptions& options,
                           const Placement& placement,
                           const std::vector<int>& replicas) {
  Schedule schedule = empty_schedule(name, placement, options);
  for (int s = 0; s < options.ranks; ++s) {
    const int r = replicas[at(s)];
    const int later = std::accumulate(replicas.begin() + s, replicas.end(), 0);
    for (int k = 0; k < r; ++k) {
      const int units = share(options.microbatches, k, r);
      const int warmup = name == "gpipe" ? units : (later + r - 1) / r - 1;
      auto& list = schedule.ranks[at(placement.owners[at(s)][at(k)])];
      one_by_one(
          units, warmup, [&](int i) { list.push_back(forward(s, i * r + k)); },
          [&](int i) { list.push_back(backward(s, i * r + k)); });
    }
  }
  return schedule;
}

}  // namespace

Placement replicated_placement(std::string_view name,
                               const GeneratorOptions& options,
                               const std::vector<int>& replicas) {
  require_replicas(options, replicas);
  const Placement one = find_generator(generators(), name).place(options);
  if (all_alike(replicas)) return side_by_side(one, replicas[0]);
  check_usage(name == "1f1b" || name == "gpipe", "replicas that differ from stage to stage need ",
              "the schedule 1f1b or gpipe, given ", name,
              "; or give all stages the same number of replicas");
  return stage_by_stage(replicas);
}

Schedule replicate(std::string_view name,
                   const GeneratorOptions& options,
                   const std::vector<int>& replicas) {
  require_replicas(options, replicas);
  for (const int r : replicas)
    check_usage(r <= options.microbatches, "replicas holds ", r, ", and there are ",
                options.microbatches, " microbatches: a replica would have none; use ", r,
                " microbatches or more");
  if (all_alike(replicas) && replicas[0] == 1) return generate(name, options);
  Placement placement = replicated_placement(name, options, replicas);
  return all_alike(replicas) ? pipelines(name, options, std::move(placement), replicas[0])
                             : replicated_stages(name, options, placement, replicas);
}

}  // namespace headrace
