#include "headrace/train/elastic.h"

#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/plan/stage_costs.h"
#include "headrace/simulate/simulate.h"
#include "headrace/train/trainable.h"

namespace headrace {
namespace {

struct Shape {
  int ranks;
  std::vector<int> replicas;

  bool operator==(const Shape&) const = default;
};

std::vector<Shape> shapes_of(int processes, const PipelineConfig& pipeline) {
  std::vector<Shape> shapes;
  const auto add = [&](const Shape& shape) {
    for (const Shape& other : shapes)
      if (other == shape) return;
    shapes.push_back(shape);
  };
  if (pipeline.replicas.size() == 1) {
    const int replicas = pipeline.replicas.front();
    if (processes % replicas == 0) add({processes / replicas, {replicas}});
    if (processes % pipeline.ranks == 0) add({pipeline.ranks, {processes / pipeline.ranks}});
  }
  add({processes, {1}});
  return shapes;
}

std::string replicas_text(const std::vector<int>& replicas) {
  std::string text;
  for (const int each : replicas) text += cat(text.empty() ? "" : ", ", each);
  return replicas.size() == 1 ? text : "[" + text + "]";
}

// Of a step on paper, in the unit of the layers' estimates.
double makespan_of(const Config& config) {
  const Plan plan = plan_of(config);
  const auto microbatches = static_cast<int>(config.train.microbatches);
  return simulate_totals(training_schedule(plan, microbatches), stage_costs(plan)).makespan;
}

}  // namespace

LaidOut laid_out_for(int processes, const Config& config) {
  const PipelineConfig& before = config.pipeline;
  if (processes == processes_of(before)) return {config, ""};
  std::string reasons;
  for (const Shape& shape : shapes_of(processes, before)) {
    Config anew = config;
    PipelineConfig& pipeline = anew.pipeline;
    pipeline.ranks = shape.ranks;
    pipeline.replicas = shape.replicas;
    if (shape.ranks != before.ranks) {
      pipeline.balance.clear();
      pipeline.split.clear();
      pipeline.stages_per_rank = 0;
    }
    try {
      resolve(anew);
      require_trainable(anew, /*all_on_this_machine=*/false);
    } catch (const UsageError& error) {
      reasons += cat("; ranks ", shape.ranks, ", replicas ", replicas_text(shape.replicas), ": ",
                     error.what());
      continue;
    }
    std::string what = cat(processes, processes == 1 ? " process" : " processes", " instead of ",
                           processes_of(before), ":");
    if (shape.ranks != before.ranks) what += cat(" ranks ", before.ranks, " -> ", shape.ranks);
    if (shape.replicas != before.replicas)
      what += cat(shape.ranks != before.ranks ? "," : "", " replicas ",
                  replicas_text(before.replicas), " -> ", replicas_text(shape.replicas));
    what += cat("; by the layers' estimated costs a step takes ",
                fixed_text(makespan_of(anew) / makespan_of(config), 2), " times as long");
    return {std::move(anew), what};
  }
  throw UsageError(cat(processes, processes == 1 ? " process is" : " processes are",
                       " there, and the run cannot be laid out for ",
                       processes == 1 ? "it" : "them", reasons));
}

}  // namespace headrace
