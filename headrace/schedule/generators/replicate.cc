#include "headrace/schedule/generators/replicate.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>

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

// Pipeline k of r does the microbatches k, k + r, …; its own microbatch i is i·r + k of all.
Schedule side_by_side(std::string_view name, const GeneratorOptions& options, int replicas) {
  Schedule all;
  for (int k = 0; k < replicas; ++k) {
    GeneratorOptions own = options;
    own.microbatches = share(options.microbatches, k, replicas);
    const Schedule one = generate(name, own);
    const int splits = one.sequence_splits;
    if (k == 0) {
      all.name = one.name;
      all.sequence_splits = splits;
      all.placement.ranks = one.placement.ranks * replicas;
      all.placement.owners.resize(one.placement.owners.size());
      all.ranks.resize(at(all.placement.ranks));
    }
    check_usage(splits == 1, name, " splits sequences, and its pipelines cannot be replicated");
    all.microbatches += one.microbatches;
    for (int p = 0; p < one.placement.ranks; ++p)
      for (Action action : one.ranks[at(p)]) {
        if (action.microbatch >= 0) action.microbatch = action.microbatch * replicas + k;
        all.ranks[at(p * replicas + k)].push_back(action);
      }
    for (int s = 0; s < one.placement.stages(); ++s) {
      auto& owners = all.placement.owners[at(s)];
      const auto& here = one.placement.owners[at(s)];
      owners.resize(here.size() * at(replicas));
      for (std::size_t j = 0; j < here.size(); ++j)
        owners[j * at(replicas) + at(k)] = here[j] * replicas + k;
    }
  }
  return all;
}

Schedule stage_by_stage(std::string_view name,
                        const GeneratorOptions& options,
                        const std::vector<int>& replicas) {
  check_usage(name == "1f1b" || name == "gpipe", "replicas that differ from stage to stage need ",
              "the schedule 1f1b or gpipe, given ", name,
              "; or give all stages the same number of replicas");
  check_usage(at(options.ranks) == replicas.size(), "replicas names ", replicas.size(),
              " stages, and there are ", options.ranks);
  require_stages_per_rank(name, options, 1);
  Placement placement;
  for (const int r : replicas) {
    auto& owners = placement.owners.emplace_back();
    for (int k = 0; k < r; ++k) owners.push_back(placement.ranks++);
  }
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

Schedule replicate(std::string_view name,
                   const GeneratorOptions& options,
                   const std::vector<int>& replicas) {
  check_usage(!replicas.empty(), "replicas is empty; give one number, or one a stage");
  for (const int r : replicas) {
    check_usage(r >= 1, "replicas holds ", r, "; each must be 1 or more");
    check_usage(r <= options.microbatches, "replicas holds ", r, ", and there are ",
                options.microbatches, " microbatches: a replica would have none; use ", r,
                " microbatches or more");
  }
  const bool same = std::ranges::all_of(replicas, [&](int r) { return r == replicas[0]; });
  check_usage(replicas.size() == 1 || at(options.ranks) == replicas.size(), "replicas names ",
              replicas.size(), " stages, and there are ", options.ranks,
              "; give one number for all, or one a stage");
  if (same && replicas[0] == 1) return generate(name, options);
  return same ? side_by_side(name, options, replicas[0]) : stage_by_stage(name, options, replicas);
}

}  // namespace headrace
