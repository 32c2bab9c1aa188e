// One rank's share of a pipeline: its stages, their gradients, and the steps they do together with
// the other ranks.
//
//   Pipeline pipeline(model, plan, transport, {.seed = 1});
//   StepResult result = pipeline.train({.step = 0, .microbatches = 8, .inputs = …, .targets = …});
//   // every gradient is summed and clipped; the caller updates pipeline.gradients().to_update()
//   pipeline.gradients().share_values(0);
//
// Every rank calls the same methods in the same order. Results are the same on every rank.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "headrace/plan/plan.h"
#include "headrace/runtime/executor.h"
#include "headrace/runtime/gradients.h"

namespace headrace {

struct Work {
  std::int64_t step = 0;  // from 0
  int microbatches = 1;
  // Of a microbatch: asked for on the ranks of the first stage, and on those of the last.
  std::function<torch::Tensor(int)> inputs;
  std::function<torch::Tensor(int)> targets;
  // 1 / valid tokens of the global batch; asynchronous schedules: each of a microbatch's update, by
  // `scale_of_update`.
  double loss_scale = 1;
  double clip = 0;  // greatest norm of the gradients; 0: none
  // A power of two that gradients are computed times, and that is taken out again.
  double gradient_scale = 1;
  bool may_overflow = false;  // a norm that is not finite is no error: StepResult::overflow
  bool stop = false;          // this rank was asked to end
  std::function<void(const Action&)> on_action;
  // Of asynchronous schedules. The valid tokens of an update are those of its microbatches; and
  // `update` is to change the parameters of the stage of that number by their gradients.
  std::function<double(const std::vector<int>&)> scale_of_update;
  std::function<void(int)> update;
};

struct StepResult {
  double loss = 0;  // mean over the valid tokens of the global batch; asynchronous: over updates
  bool overflow = false;  // the norm is not finite: there is nothing to update with
  double norm = 0;        // of all gradients, before clipping; asynchronous: there is none, NaN
  bool stop = false;      // any rank was asked to end
  double reduce_start = 0, reduce_end = 0;  // this rank's sums over owners, on the shared clock
  double makespan = 0;  // seconds from the first rank's first action to the last rank's last one
};

struct Evaluation {
  double loss = 0;  // sum over the valid tokens
  std::int64_t correct = 0;
};

struct PipelineOptions {
  std::uint64_t seed = 0;
  torch::Device device = torch::kCPU;
  torch::ScalarType precision = torch::kFloat32;  // of matrix products (precision.h)
  bool sharded = false;  // gradients' sums stay with one of their owners (gradients.h)
};

class Pipeline {
 public:
  Pipeline(const std::vector<LayerSpec>& model,
           Plan plan,
           Transport& transport,
           const PipelineOptions& options);

  // Forward, backward, shared gradients, norm and clipping: all of a step but the update, which an
  // asynchronous schedule makes itself, through work.update, many times. Throws Error on every
  // rank, naming the step and the first such parameter, where the norm is not finite and
  // work.may_overflow is not set.
  StepResult train(const Work& work);
  // Forwards alone, with nothing saved, no random draws, and gradients left as they are.
  Evaluation evaluate(const Work& work);

  bool holds_first() const;
  bool holds_last() const;
  const Plan& plan() const { return plan_; }
  Gradients& gradients() { return *gradients_; }
  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }
  // What this rank did in the last step.
  const std::vector<Event>& events() const { return executor_->events(); }

 private:
  const Schedule& schedule(int microbatches, bool training);
  Feed feed_of(const Work& work, bool training);
  Losses run_asynchronous(const Work& work, const Schedule& schedule);

  Plan plan_;
  Transport& transport_;
  PipelineOptions options_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::unique_ptr<Gradients> gradients_;
  std::unique_ptr<Executor> executor_;
  std::map<std::pair<int, bool>, Schedule> schedules_;  // by microbatches and training
};

}  // namespace headrace
