// Which layers run where: the model's list cut into the stages of a schedule's placement. Plain
// data, the same on every rank, made before any process or network starts.
//
//   Layout layout = make_layout({.model = gpt(config), .schedule = "1f1b", .ranks = 2});
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headrace/model/layer.h"
#include "headrace/plan/partition.h"
#include "headrace/plan/search/search.h"
#include "headrace/runtime/stage.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

// In place of stages' numbers: all of them, or the attention of all.
constexpr int kRecomputeAll = -1, kRecomputeAttention = -2;

struct LayoutOptions {
  std::vector<LayerSpec> model;
  std::string schedule = "1f1b";    // a name, or a file of the text form ("mine.csv")
  int microbatches = 0;             // what `auto` is searched for; no other schedule asks
  int ranks = 1;                    // of one pipeline
  int stages_per_rank = 0;          // 0: the schedule's own default
  std::vector<int> replicas = {1};  // of every stage, or one number a stage (replicate.h)
  SplitWish wish;
  std::vector<int> recompute;  // stages that recompute their activations, or one of the above
};

struct Layout {
  std::vector<LayerSpec> model;
  std::string schedule;
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

// Throws UsageError where the schedule, the sizes or the wishes do not fit.
Layout make_layout(const LayoutOptions& options);

// Whether `schedule` is a file, and the one it holds.
bool is_schedule_file(const std::string& schedule);
Schedule read_schedule(const std::string& file);

// The layout's schedule for so many microbatches, proved sound and lowered; forwards alone where
// not `training`.
Schedule lowered_schedule(const Layout& layout, int microbatches, bool training);

}  // namespace headrace
