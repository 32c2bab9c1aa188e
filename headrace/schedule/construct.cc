#include "headrace/schedule/construct.h"

#include <limits>
#include <string>

#include "headrace/base/error.h"

namespace headrace {

Schedule empty_schedule(std::string_view name,
                        Placement placement,
                        const GeneratorOptions& options) {
  check_usage(options.microbatches >= 1, name, " needs microbatches >= 1, given ",
              options.microbatches, "; the nearest that works is 1");
  require_costs(options.costs, placement.stages());
  Schedule schedule;
  schedule.name = std::string(name);
  schedule.ranks.resize(static_cast<std::size_t>(placement.ranks));
  schedule.placement = std::move(placement);
  schedule.microbatches = options.microbatches;
  return schedule;
}

std::string nearest_sizes(int below, int above) {
  if (below == above) return cat("; the nearest that works is ", below);
  return cat("; the nearest that work are ", below, " and ", above);
}

int stages_per_rank_or(const GeneratorOptions& options, int standard) {
  return options.stages_per_rank == 0 ? standard : options.stages_per_rank;
}

void require_stages_per_rank(std::string_view name, const GeneratorOptions& options, int only) {
  check_usage(options.ranks >= 1, name, " needs ranks >= 1, given ", options.ranks,
              "; the nearest that works is 1");
  check_usage(stages_per_rank_or(options, only) == only, name, " has ", only,
              only == 1 ? " stage" : " stages", " a rank, not ", options.stages_per_rank,
              "; leave stages_per_rank out or set it to ", only);
}

void require_costs(const Costs& costs, int stages) {
  for (const auto* values :
       {&costs.forward, &costs.backward_input, &costs.backward_weight, &costs.memory_forward,
        &costs.memory_backward_input, &costs.memory_backward_weight})
    check_usage(values->size() == 1 || values->size() == static_cast<std::size_t>(stages),
                "costs have ", values->size(), " values; there are ", stages,
                " stages: give one for each, or one for all");
}

StageTimes times_of(const Costs& costs, int stage) {
  const double f = Costs::of_stage(costs.forward, stage);
  return {f + costs.overhead,
          Costs::of_stage(costs.backward_input, stage) + costs.recompute * f + costs.overhead,
          Costs::of_stage(costs.backward_weight, stage) + costs.overhead};
}

double transfer_time(const Costs& costs) {
  return costs.latency + (costs.bandwidth > 0 ? costs.message_bytes / costs.bandwidth : 0);
}

double memory_limit_of(const GeneratorOptions& options, int rank) {
  const auto& limits = options.memory_limit;
  if (limits.empty()) return std::numeric_limits<double>::infinity();
  check_usage(limits.size() == 1 || limits.size() == static_cast<std::size_t>(options.ranks),
              "memory_limit has ", limits.size(), " values for ", options.ranks,
              " ranks; give one for all or one for each");
  return limits.size() == 1 ? limits[0] : limits[static_cast<std::size_t>(rank)];
}

}  // namespace headrace
