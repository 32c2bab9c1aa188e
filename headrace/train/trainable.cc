#include "headrace/train/trainable.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/plan/memory.h"
#include "headrace/plan/transformer.h"
#include "headrace/schedule/schedule.h"
#include "headrace/train/config/refusals.h"
#include "headrace/train/predicted_memory.h"
#include "headrace/train/resume.h"

namespace headrace {

Plan plan_of(const Config& config) {
  const std::vector<LayerInfo> layers =
      naming_settings("model", [&] { return transformer_layers(config.model.transformer); });
  const PipelineConfig& pipeline = config.pipeline;
  const PlanWish wish = {.schedule = pipeline.schedule,
                         .microbatches = static_cast<int>(config.train.microbatches),
                         .ranks = pipeline.ranks,
                         .stages_per_rank = pipeline.stages_per_rank,
                         .replicas = pipeline.replicas,
                         .cut = {pipeline.balance, pipeline.split},
                         .recompute = pipeline.recompute};
  return naming_settings("pipeline", [&] { return make_plan(layers, wish); });
}

Schedule training_schedule(const Plan& plan, int microbatches) {
  const int only = plan.source.file ? plan.source.file->microbatches : microbatches;
  check_usage(only == microbatches, "pipeline.schedule '", plan.source.name, "' is for ", only,
              " microbatches, and a batch has ", microbatches, "; set train.microbatches = ", only,
              " (and train.drop_last with epochs)");
  return naming_settings("pipeline", [&] { return schedule_of(plan, microbatches, Pass::Train); });
}

void require_trainable(const Config& config, bool all_on_this_machine) {
  if (!config.model.from.empty() && config.resume == Resume::No) require_same_model(config);
  const Plan plan = plan_of(config);
  require_memory_for_weights(plan);
  const Schedule schedule = training_schedule(plan, static_cast<int>(config.train.microbatches));
  const std::vector<double> bytes = predicted_memory(config, plan);
  if (all_on_this_machine)
    require_memory(std::accumulate(bytes.begin(), bytes.end(), 0.0),
                   cat("the tensors of ", bytes.size(), " ranks on this machine"));
  else
    require_memory(*std::ranges::min_element(bytes), "the tensors of the smallest rank");
  if (!is_asynchronous(schedule)) return;
  const std::string what = cat("pipeline.schedule '", plan.source.name, "' is asynchronous");
  const bool copies = std::ranges::any_of(plan.placement.owners,
                                          [](const auto& owners) { return owners.size() > 1; });
  Faults faults;
  faults.check(config.optimizer.clip == 0, what,
               ": there is no norm of all gradients to clip by; set optimizer.clip = 0");
  faults.check(config.train.not_finite == "end", what,
               ": where a stage finds a number that is none, others have been updated, and there "
               "is no step to leave out; set "
               "train.not_finite = \"end\"");
  faults.check(config.train.precision != "fp16", what,
               ": there is no step to leave out where fp16 overflows; set train.precision = "
               "\"bf16\"");
  faults.check(!config.model.transformer.tied, what,
               ", and the owners of tied embeddings would drift apart; set model.tied = false");
  faults.check(!copies, what, ", and trains without replicas; set pipeline.replicas = 1");
  faults.require_none();
}

}  // namespace headrace
