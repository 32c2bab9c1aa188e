// A plan: which layers run where, and by which schedule. Plain data, the same on every rank, made
// before any process or network starts.
//
//   Plan plan = make_plan(transformer_layers(config), {.schedule = "1f1b", .ranks = 2});
//   Schedule schedule = schedule_of(plan, 8, Pass::Train);
//
// Both throw UsageError where schedule, sizes and wishes do not fit. What concerns one field of the
// wish begins with that field's name, so that who knows what users call it can say so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headrace/plan/layers.h"
#include "headrace/plan/partition.h"
#include "headrace/plan/recompute.h"
#include "headrace/plan/search/search.h"
#include "headrace/plan/source.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

struct PlanWish {
  std::string schedule = "1f1b";    // a name, `auto`, or a file of the text form
  int microbatches = 0;             // what `auto` is searched for; no other schedule asks
  int ranks = 1;                    // of one pipeline
  int stages_per_rank = 0;          // 0: the schedule's own default
  std::vector<int> replicas = {1};  // of every stage, or one number a stage (replicate.h)
  SplitWish cut;
  RecomputeWish recompute = Recompute::None;
};

struct Plan {
  std::vector<LayerInfo> layers;
  ScheduleSource source;
  int ranks = 1;  // of one pipeline
  int stages_per_rank = 0;
  std::vector<int> replicas = {1};
  Placement placement;
  std::vector<int> starts;           // first layer of each stage
  std::vector<Recompute> recompute;  // of each stage
  std::vector<double> share;         // of the whole estimated cost, each stage
  std::optional<Found> found;        // of `auto`

  int stages() const { return static_cast<int>(starts.size()); }
  int end(int stage) const;  // one past the stage's last layer
  int stage_of(int layer) const;
};

Plan make_plan(const std::vector<LayerInfo>& layers, const PlanWish& wish);

enum class Pass : std::uint8_t { Train, Evaluate };  // Evaluate: forwards alone

// The plan's schedule for so many microbatches, proved sound and lowered.
Schedule schedule_of(const Plan& plan, int microbatches, Pass pass);

}  // namespace headrace
