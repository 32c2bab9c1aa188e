#include "headrace/plan/plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/plan/stage_costs.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/generators/replicate.h"

namespace headrace {
namespace {

GeneratorOptions options_of(const Plan& plan, int microbatches) {
  return {
      .ranks = plan.ranks, .microbatches = microbatches, .stages_per_rank = plan.stages_per_rank};
}

// `auto`: by the layers' estimates, for stages as they are cut. No rank is to hold more than 1F1B's
// first one does where all stages are as heavy as the heaviest.
Found search_for(const Plan& plan, int microbatches, const std::optional<Placement>& placement) {
  GeneratorOptions options = options_of(plan, microbatches);
  options.costs = stage_costs(plan);
  options.memory_limit = {plan.stages() * std::ranges::max(options.costs.memory_forward)};
  return search_schedules(options, {.several_copies = false, .placement = placement});
}

// The search is for one number of microbatches; an epoch's last batch may have fewer.
Schedule searched(const Plan& plan, int microbatches) {
  if (plan.found->schedule.microbatches == microbatches) return plan.found->schedule;
  return search_for(plan, microbatches, plan.placement).schedule;
}

// The file's, which is for one number of microbatches.
const Schedule& from_file(const Plan& plan, int microbatches) {
  const Schedule& schedule = *plan.source.file;
  check_usage(schedule.microbatches == microbatches, "schedule '", plan.source.name, "' is for ",
              schedule.microbatches, " microbatches, and a batch has ", microbatches,
              "; give every batch ", schedule.microbatches);
  return schedule;
}

Schedule training_schedule(const Plan& plan, int microbatches) {
  if (plan.found) return searched(plan, microbatches);
  if (plan.source.file) return from_file(plan, microbatches);
  return replicate(plan.source.name, options_of(plan, microbatches), plan.replicas);
}

void check_file(const Plan& plan, const PlanWish& wish) {
  const int ranks = plan.source.file->placement.ranks;
  check_usage(ranks == wish.ranks, "schedule '", wish.schedule, "' is for ", ranks,
              " ranks, and ranks is ", wish.ranks);
  check_usage(wish.replicas == std::vector<int>{1}, "replicas is given with the file '",
              wish.schedule, "'; a file says itself which ranks do what");
}

void check_search(const PlanWish& wish) {
  check_usage(wish.replicas == std::vector<int>{1},
              "schedule 'auto' is searched for one pipeline, and replicas is given; leave it out, ",
              "or name a schedule");
  check_usage(wish.microbatches >= 1, "microbatches is ", wish.microbatches,
              "; the search for a schedule ('auto') needs their number");
}

std::vector<Recompute> recompute_of(const RecomputeWish& wish, int stages) {
  if (const Recompute* all = std::get_if<Recompute>(&wish))
    return std::vector<Recompute>(static_cast<std::size_t>(stages), *all);
  std::vector<Recompute> each(static_cast<std::size_t>(stages), Recompute::None);
  for (const int stage : std::get<std::vector<int>>(wish)) {
    check_usage(stage >= 0 && stage < stages, "recompute names stage ", stage,
                "; there are stages 0 to ", stages - 1);
    each[static_cast<std::size_t>(stage)] = Recompute::All;
  }
  return each;
}

// Of the whole weight, each stage.
std::vector<double> shares(const Plan& plan) {
  std::vector<double> share;
  double total = 0;
  for (int s = 0; s < plan.stages(); ++s) {
    double weight = 0;
    for (int i = plan.starts[static_cast<std::size_t>(s)]; i < plan.end(s); ++i)
      weight += plan.layers[static_cast<std::size_t>(i)].cost.weight();
    share.push_back(weight);
    total += weight;
  }
  for (double& each : share) each /= total;
  return share;
}

}  // namespace

int Plan::end(int stage) const {
  const auto next = static_cast<std::size_t>(stage) + 1;
  return next < starts.size() ? starts[next] : static_cast<int>(layers.size());
}

int Plan::stage_of(int layer) const {
  return static_cast<int>(std::upper_bound(starts.begin(), starts.end(), layer) - starts.begin()) -
         1;
}

Plan make_plan(const std::vector<LayerInfo>& layers, const PlanWish& wish) {
  check_usage(wish.ranks >= 1, "ranks is ", wish.ranks, "; it must be 1 or more");
  Plan plan;
  plan.source = schedule_source(wish.schedule);
  // Before a placement of as many is made.
  require_layers(layers.size(), std::int64_t{wish.ranks} * std::max(1, wish.stages_per_rank));
  plan.layers = layers;
  plan.ranks = wish.ranks;
  plan.stages_per_rank = wish.stages_per_rank;
  plan.replicas = wish.replicas;
  if (plan.source.is_searched()) {
    check_search(wish);
  } else if (plan.source.file) {
    check_file(plan, wish);
    plan.placement = plan.source.file->placement;
  } else {
    plan.placement = replicated_placement(wish.schedule, options_of(plan, 1), wish.replicas);
  }
  const int stages = plan.source.is_searched() ? wish.ranks * std::max(1, wish.stages_per_rank)
                                               : plan.placement.stages();
  std::vector<LayerItem> items;
  for (const LayerInfo& layer : layers)
    items.push_back({layer.name, layer.block, layer.cost.weight()});
  plan.starts = partition(items, stages, wish.cut);
  plan.recompute = recompute_of(wish.recompute, stages);
  plan.share = shares(plan);
  if (plan.source.is_searched()) {
    plan.found = search_for(plan, wish.microbatches, std::nullopt);
    plan.placement = plan.found->schedule.placement;
  }
  return plan;
}

Schedule schedule_of(const Plan& plan, int microbatches, Pass pass) {
  const Schedule schedule = pass == Pass::Evaluate ? forward_only(plan.placement, microbatches)
                                                   : training_schedule(plan, microbatches);
  check_usage(schedule.sequence_splits == 1, "schedule '", plan.source.name,
              "' splits sequences; training runs schedules that keep them whole (headrace show ",
              "lists them)");
  return proved_and_lowered(schedule);
}

}  // namespace headrace
