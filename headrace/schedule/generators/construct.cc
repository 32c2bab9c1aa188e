#include "headrace/schedule/generators/construct.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/action.h"

namespace headrace {
namespace {

// Nothing multiplies more than 24 of either, or both of them by more than 2: that stays an int.
constexpr std::int64_t kMostOfEither = std::int64_t{1} << 26;
constexpr std::int64_t kMostOfBoth = (std::int64_t{1} << 30) - 1;

std::string counted(double count) {
  return count < 9e18 ? count_text(static_cast<std::int64_t>(count)) : cat(count);
}

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

void require_sizes(std::string_view name, const GeneratorOptions& options) {
  const double stages = static_cast<double>(options.ranks) * std::max(1, options.stages_per_rank);
  const double units =
      static_cast<double>(options.microbatches) * std::max(1, options.sequence_splits);
  std::string sizes = cat(name, " with ranks ", options.ranks);
  if (options.stages_per_rank > 1) sizes += cat(", stages_per_rank ", options.stages_per_rank);
  sizes += cat(", microbatches ", options.microbatches);
  if (options.sequence_splits > 1) sizes += cat(", sequence_splits ", options.sequence_splits);
  // A forward and a backward, at least; and a list for each rank, and of the owners of each stage.
  const double actions = 2 * stages * units;
  const double lists = stages * sizeof(std::vector<int>) * 2;
  require_memory(actions * sizeof(Action) + lists,
                 cat(sizes, " has at least ", counted(actions), " actions of ", sizeof(Action),
                     " bytes on ", counted(stages), " stages"));
  check_usage(stages <= kMostOfEither && units <= kMostOfEither && stages * units <= kMostOfBoth,
              sizes, " is too large: a schedule has at most ", count_text(kMostOfEither),
              " stages, as many microbatches, and ", count_text(kMostOfBoth),
              " of both multiplied");
}

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
