#include "headrace/train/trainable.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/runtime/predict_memory.h"
#include "headrace/schedule/schedule.h"
#include "headrace/train/resume.h"
#include "headrace/train/summary.h"

namespace headrace {

Layout layout_of(const Config& config) {
  return make_layout({.model = gpt(config.model.gpt),
                      .schedule = config.pipeline.schedule,
                      .microbatches = static_cast<int>(config.train.microbatches),
                      .ranks = config.pipeline.ranks,
                      .stages_per_rank = config.pipeline.stages_per_rank,
                      .replicas = config.pipeline.replicas,
                      .wish = {config.pipeline.balance, config.pipeline.split},
                      .recompute = config.pipeline.recompute});
}

void require_trainable(const Config& config, bool all_on_this_machine) {
  if (!config.model.from.empty() && !config.resume) require_same_model(config);
  const Layout layout = layout_of(config);
  require_memory_for_weights(layout);
  const Schedule schedule =
      lowered_schedule(layout, static_cast<int>(config.train.microbatches), true);
  const std::vector<double> bytes = predicted_memory(config, layout);
  if (all_on_this_machine)
    require_memory(std::accumulate(bytes.begin(), bytes.end(), 0.0),
                   cat("the tensors of ", bytes.size(), " ranks on this machine"));
  else
    require_memory(*std::ranges::min_element(bytes), "the tensors of the smallest rank");
  if (!is_asynchronous(schedule)) return;
  const std::string what = cat("pipeline.schedule '", layout.schedule, "' is asynchronous");
  const bool copies = std::ranges::any_of(layout.placement.owners,
                                          [](const auto& owners) { return owners.size() > 1; });
  Faults faults;
  faults.check(config.train.clip == 0, what,
               ": there is no norm of all gradients to clip by; set train.clip = 0");
  faults.check(config.train.precision != "fp16", what,
               ": there is no step to leave out where fp16 overflows; set train.precision = "
               "\"bf16\"");
  faults.check(!config.model.gpt.tied, what,
               ", and the owners of tied embeddings would drift apart; set model.tied = false");
  faults.check(!copies, what, ", and trains without replicas; set pipeline.replicas = 1");
  faults.require_none();
}

}  // namespace headrace
