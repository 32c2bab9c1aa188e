#include "headrace/schedule/generators/construct.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

void require_cost(std::string_view name,
                  const std::vector<double>& values,
                  int stages,
                  bool is_time) {
  check_usage(values.size() == 1 || values.size() == static_cast<std::size_t>(stages), "cost ",
              name, " has ", values.size(), " values; there are ", stages,
              " stages: give one for each, or one for all");
  for (const double value : values)
    check_usage(std::isfinite(value) && (!is_time || value >= 0), "cost ", name, " is ", value,
                is_time ? "; it must be finite, and 0 or more" : "; it must be finite");
}

}  // namespace

Schedule empty_schedule(std::string_view name,
                        Placement placement,
                        const GeneratorOptions& options) {
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

void require_costs(const Costs& costs, int stages) {
  require_cost("forward", costs.forward, stages, true);
  require_cost("backward_input", costs.backward_input, stages, true);
  require_cost("backward_weight", costs.backward_weight, stages, true);
  require_cost("memory_forward", costs.memory_forward, stages, false);
  require_cost("memory_backward_input", costs.memory_backward_input, stages, false);
  require_cost("memory_backward_weight", costs.memory_backward_weight, stages, false);
  require_cost("latency", {costs.latency}, stages, true);
  require_cost("bandwidth", {costs.bandwidth}, stages, true);
  require_cost("message_bytes", {costs.message_bytes}, stages, true);
  require_cost("overhead", {costs.overhead}, stages, true);
  require_cost("recompute", {costs.recompute}, stages, true);
  require_cost("update", {costs.update}, stages, true);
  require_cost("reduce", {costs.reduce}, stages, true);
  require_cost("overlapped", {costs.overlapped}, stages, false);  // below 0: the sum of the two
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
