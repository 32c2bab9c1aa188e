#include "headrace/runtime/layout.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/validate.h"

namespace headrace {
namespace {

// The placement does not depend on the number of microbatches, but some schedules refuse few: ask
// with plenty.
Placement placement_of(const LayoutOptions& options) {
  const int plenty = 4 * options.ranks * std::max(1, options.stages_per_rank);
  return generate(options.schedule, {.ranks = options.ranks,
                                     .microbatches = plenty,
                                     .stages_per_rank = options.stages_per_rank})
      .placement;
}

}  // namespace

int Layout::end(int stage) const {
  const auto next = static_cast<std::size_t>(stage) + 1;
  return next < starts.size() ? starts[next] : static_cast<int>(model.size());
}

int Layout::stage_of(int layer) const {
  return static_cast<int>(std::upper_bound(starts.begin(), starts.end(), layer) - starts.begin()) -
         1;
}

Layout make_layout(const LayoutOptions& options) {
  check_usage(options.ranks >= 1, "pipeline.ranks is ", options.ranks, "; it must be 1 or more");
  Layout layout;
  layout.model = options.model;
  layout.schedule = options.schedule;
  layout.stages_per_rank = options.stages_per_rank;
  layout.placement = placement_of(options);
  for (int s = 0; s < layout.placement.stages(); ++s)
    check_usage(
        layout.placement.replicas(s) == 1, "pipeline.schedule '", options.schedule, "' keeps ",
        layout.placement.replicas(s),
        " replicas of each stage; training runs schedules with one (headrace show lists them)");
  std::vector<LayerItem> items;
  for (const LayerSpec& layer : options.model)
    items.push_back({layer.name, layer.block, layer.cost.weight()});
  layout.starts = partition(items, layout.placement.stages(), options.wish);

  layout.recompute.assign(layout.starts.size(), options.recompute == std::vector<int>{-1});
  for (const int stage : options.recompute) {
    if (stage == -1) continue;
    check_usage(stage >= 0 && stage < layout.stages(), "pipeline.recompute names stage ", stage,
                "; there are stages 0 to ", layout.stages() - 1);
    layout.recompute[static_cast<std::size_t>(stage)] = true;
  }
  const double total =
      std::accumulate(items.begin(), items.end(), 0.0,
                      [](double sum, const LayerItem& item) { return sum + item.weight; });
  for (int s = 0; s < layout.stages(); ++s) {
    double weight = 0;
    for (int i = layout.starts[static_cast<std::size_t>(s)]; i < layout.end(s); ++i)
      weight += items[static_cast<std::size_t>(i)].weight;
    layout.share.push_back(weight / total);
  }
  return layout;
}

Schedule lowered_schedule(const Layout& layout, int microbatches, bool training) {
  const Schedule schedule =
      training ? generate(layout.schedule, {.ranks = layout.placement.ranks,
                                            .microbatches = microbatches,
                                            .stages_per_rank = layout.stages_per_rank})
               : forward_only(layout.placement, microbatches);
  for (const auto& rank : schedule.ranks)
    for (const Action& action : rank)
      check_usage(action.kind != Kind::Update, "pipeline.schedule '", layout.schedule,
                  "' is asynchronous; training runs the synchronous schedules (see headrace show)");
  check_usage(schedule.sequence_splits == 1, "pipeline.schedule '", layout.schedule,
              "' splits sequences; training runs schedules that keep them whole (headrace show "
              "lists them)");
  require_valid(schedule);
  Schedule lowered = lower(schedule);
  require_valid(lowered);
  return lowered;
}

}  // namespace headrace
