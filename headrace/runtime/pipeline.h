// One rank's share of a pipeline: its stages, their gradients, and the steps they do together with
// the other ranks.
//
//   Pipeline pipeline(plan, transport, {.seed = 1});
//   StepResult result = pipeline.train({.step = 0, .microbatches = 8, .inputs = …, .targets = …},
//                                      {.normaliser = 1.0 / tokens, .clip = 1});
//   // every gradient is summed and clipped; the caller changes pipeline.to_update()
//   pipeline.gradients().share_values(0);
//
// Every rank calls the same methods in the same order. Results are the same on every rank.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/plan/plan.h"
#include "headrace/runtime/executor.h"
#include "headrace/runtime/gradients.h"
#include "headrace/runtime/ownership.h"
#include "headrace/runtime/weights.h"

namespace headrace {

// What a step computes with.
struct StepInput {
  std::int64_t step = 0;  // from 0; of an evaluation: the steps done
  int microbatches = 1;
  // Of a microbatch: asked for on the ranks of the first stage, and on those of the last.
  std::function<torch::Tensor(int)> inputs;
  std::function<torch::Tensor(int)> targets;
  std::function<void(const Action&)> before_action = {};  // may be empty
};

// What a step makes of it.
struct StepPolicy {
  double normaliser = 1;  // 1 / valid tokens of the global batch
  double clip = 0;        // greatest norm of the gradients; 0: none
  // A power of two that gradients are computed times, and that is taken out again.
  double backward_scale = 1;
  // Of asynchronous schedules, instead of `normaliser`: of the update of these microbatches. And
  // `update` is to change the weights of the stage of that number by their gradients.
  std::function<double(const std::vector<int>&)> normaliser_of_update = {};
  std::function<void(int)> update = {};
  // What this rank has to say to all others at the step's end; of one length on all ranks.
  std::vector<double> tell = {};
};

struct StepResult {
  double loss = 0;  // mean over the valid tokens of the global batch; asynchronous: over updates
  double norm = 0;  // of all gradients, before clipping; asynchronous: there is none, NaN
  // Otherwise the loss or the norm is none, and there is nothing to update with.
  bool finite = true;
  std::string worst;                        // the first parameter whose gradient is not
  std::vector<std::vector<double>> told;    // [rank], StepPolicy::tell
  double reduce_start = 0, reduce_end = 0;  // this rank's sums over owners, on the shared clock
  double makespan = 0;  // seconds from the first rank's first action to the last rank's last one
};

// What an optimizer needs, in the model's order: values are outside of autograd, and changing them
// changes the weights.
struct ToUpdate {
  std::vector<std::string> names;
  Tensors values, gradients;  // gradients: undefined before the first step
};

struct Evaluation {
  double loss = 0;             // sum over the valid tokens
  std::vector<double> counts;  // of each metric (model/metrics.h)
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
  // asynchronous schedule makes itself, through policy.update, many times. It throws Error before one by
  // gradients that are not finite; on a device, where to ask would be to wait, at the step's end, when
  // the weights are of no use any more.
  StepResult train(const StepInput& input, const StepPolicy& policy);
  // Does a step whose result was not finite again, with the weights as they were then, and says on
  // every rank what made the first such number (finite_watch.h): "blocks.1.mlp was the first to make a
  // NaN: in the forward of microbatch 2, on rank 1 (stage 1)". Gradients are of no use afterwards.
  std::string find_fault(const StepInput& input, const StepPolicy& policy);
  // Forwards alone, with nothing saved, no random draws, and gradients left as they are.
  Evaluation evaluate(const StepInput& input);

  // Of the parameters that this rank updates: all of its own, or with `sharded` those at home here.
  ToUpdate to_update() const;
  // Of asynchronous schedules, in policy.update: those of a stage.
  ToUpdate to_update(int stage) const;

  const Plan& plan() const { return plan_; }
  torch::Device device() const { return options_.device; }
  const Ownership& ownership() const { return ownership_; }
  Weights& weights() { return *weights_; }
  Gradients& gradients() { return *gradients_; }
  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }
  // What this rank did in the last step or evaluation.
  std::vector<Event> events() const { return events_of(executor_->done(), watch_); }
  const Stopwatch& watch() const { return watch_; }

 private:
  // Of an update that an asynchronous schedule makes: the norms of the gradients that it is made by.
  struct MadeUpdate {
    int stage;
    std::vector<int> microbatches;
    torch::Tensor norms;
  };

  // On the host, once the device has done what it was given: the one wait for it in a step.
  std::vector<std::vector<double>> wait_for(const std::vector<Tensors>& lists);
  void require_finite(const MadeUpdate& update,
                      const std::vector<double>& norms,
                      const std::string& consequence) const;
  std::string text_of_fault(const FiniteWatch::Finding& finding) const;
  const Schedule& schedule(int microbatches, Pass pass);
  RunOptions options_of(const StepInput& input, Pass pass) const;
  void run(const StepInput& input, const StepPolicy& policy, const Schedule& schedule, Ends& ends);
  std::vector<MadeUpdate> run_asynchronous(const StepInput& input,
                                           const StepPolicy& policy,
                                           const Schedule& schedule,
                                           Ends& ends);

  Plan plan_;
  Transport& transport_;
  PipelineOptions options_;
  const Ownership ownership_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Gradients> gradients_;
  Stopwatch watch_;
  std::unique_ptr<Executor> executor_;
  std::map<std::pair<int, Pass>, Schedule> schedules_;  // by microbatches
};

}  // namespace headrace
