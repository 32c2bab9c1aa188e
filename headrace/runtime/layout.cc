#include "headrace/runtime/layout.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/runtime/stage_costs.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/generators/replicate.h"
#include "headrace/schedule/lower.h"

namespace headrace {
namespace {

GeneratorOptions options_of(const Layout& layout, int microbatches) {
  return {.ranks = layout.ranks,
          .microbatches = microbatches,
          .stages_per_rank = layout.stages_per_rank};
}

// The placement does not depend on the number of microbatches, but some schedules refuse few: ask
// with plenty.
Placement placement_of(const Layout& layout) {
  if (is_schedule_file(layout.schedule)) return read_schedule(layout.schedule).placement;
  int plenty = 4 * layout.ranks * std::max(1, layout.stages_per_rank);
  for (const int replicas : layout.replicas) plenty = std::max(plenty, plenty * replicas);
  return replicate(layout.schedule, options_of(layout, plenty), layout.replicas).placement;
}

// `auto`: by the layers' estimates, for stages as they are cut. No rank is to hold more than 1F1B's
// first one does where all stages are as heavy as the heaviest.
Found search_for(const Layout& layout,
                 int microbatches,
                 const std::optional<Placement>& placement) {
  GeneratorOptions options = options_of(layout, microbatches);
  options.costs = stage_costs(layout);
  options.memory_limit = {layout.stages() * std::ranges::max(options.costs.memory_forward)};
  return search_schedules(options, {.several_copies = false, .placement = placement});
}

// The search is for one number of microbatches; an epoch's last batch may have fewer.
Schedule searched(const Layout& layout, int microbatches) {
  if (layout.found->schedule.microbatches == microbatches) return layout.found->schedule;
  return search_for(layout, microbatches, layout.placement).schedule;
}

Recompute recompute_of_all(const std::vector<int>& wish) {
  if (wish == std::vector<int>{kRecomputeAll}) return Recompute::All;
  return wish == std::vector<int>{kRecomputeAttention} ? Recompute::Attention : Recompute::None;
}

// The file's, which is for one number of microbatches.
Schedule from_file(const Layout& layout, int microbatches) {
  Schedule schedule = read_schedule(layout.schedule);
  check_usage(schedule.microbatches == microbatches, "pipeline.schedule '", layout.schedule,
              "' is for ", schedule.microbatches, " microbatches, and a batch has ", microbatches,
              "; set train.microbatches = ", schedule.microbatches,
              " (and train.drop_last with epochs)");
  return schedule;
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
  layout.ranks = options.ranks;
  layout.stages_per_rank = options.stages_per_rank;
  layout.replicas = options.replicas;
  const bool is_file = is_schedule_file(options.schedule);
  const bool is_searched = options.schedule == kSearched;
  if (!is_file) find_generator(named_schedules(), options.schedule);
  // Before a placement of as many is made.
  require_layers(options.model.size(),
                 std::int64_t{options.ranks} * std::max(1, options.stages_per_rank));
  int stages = options.ranks * std::max(1, options.stages_per_rank);
  if (is_searched) {
    check_usage(options.replicas == std::vector<int>{1},
                "pipeline.schedule 'auto' is searched for one pipeline, and pipeline.replicas is "
                "given; leave it out, or name a schedule");
    check_usage(options.microbatches >= 1, "microbatches is ", options.microbatches,
                "; the search for a schedule ('auto') needs their number");
  } else {
    layout.placement = placement_of(layout);
    stages = layout.placement.stages();
  }
  if (is_file) {
    check_usage(layout.placement.ranks == options.ranks, "pipeline.schedule '", options.schedule,
                "' is for ", layout.placement.ranks, " ranks, and pipeline.ranks is ",
                options.ranks);
    check_usage(options.replicas == std::vector<int>{1},
                "pipeline.replicas is given with the file '", options.schedule,
                "'; a file says itself which ranks do what");
  }
  std::vector<LayerItem> items;
  for (const LayerSpec& layer : options.model)
    items.push_back({layer.name, layer.block, layer.cost.weight()});
  layout.starts = partition(items, stages, options.wish);

  layout.recompute.assign(layout.starts.size(), recompute_of_all(options.recompute));
  for (const int stage : options.recompute) {
    if (recompute_of_all(options.recompute) != Recompute::None) break;
    check_usage(stage >= 0 && stage < layout.stages(), "pipeline.recompute names stage ", stage,
                "; there are stages 0 to ", layout.stages() - 1);
    layout.recompute[static_cast<std::size_t>(stage)] = Recompute::All;
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
  if (is_searched) {
    layout.found = search_for(layout, options.microbatches, std::nullopt);
    layout.placement = layout.found->schedule.placement;
  }
  return layout;
}

bool is_schedule_file(const std::string& schedule) {
  return schedule.ends_with(".csv");
}

Schedule read_schedule(const std::string& file) {
  std::ifstream in(file);
  check_usage(in.good(), "pipeline.schedule: cannot read '", file, "'");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  try {
    Schedule schedule = parse_csv(text, file);
    require_valid(schedule);
    return schedule;
  } catch (const Error& error) {
    throw UsageError(cat("pipeline.schedule: ", error.what()));
  }
}

Schedule lowered_schedule(const Layout& layout, int microbatches, bool training) {
  const Schedule schedule =
      !training      ? forward_only(layout.placement, microbatches)
      : layout.found ? searched(layout, microbatches)
      : is_schedule_file(layout.schedule)
          ? from_file(layout, microbatches)
          : replicate(layout.schedule, options_of(layout, microbatches), layout.replicas);
  check_usage(schedule.sequence_splits == 1, "pipeline.schedule '", layout.schedule,
              "' splits sequences; training runs schedules that keep them whole (headrace show "
              "lists them)");
  require_valid(schedule);
  Schedule lowered = lower(schedule);
  require_valid(lowered);
  return lowered;
}

}  // namespace headrace
