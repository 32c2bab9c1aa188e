// One rank's training: built from a model cut into stages, stepped, asked for a snapshot and given
// one.
//
//   Trainer trainer({.train = config.train, .optimizer = config.optimizer, .steps = 1000}, plan, transport);
//   trainer.restore(snapshot);                 // of any number of ranks
//   TrainerStep step = trainer.step(batch, {});
//   Snapshot share = trainer.snapshot();
//
// Every rank calls the same methods in the same order, with the same batches. Between steps nothing
// is under way, also of asynchronous schedules.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/data/batches.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/train/config/config.h"
#include "headrace/train/loss_scale.h"
#include "headrace/train/loss_trend.h"
#include "headrace/train/optimizer.h"
#include "headrace/train/records.h"

namespace headrace {

struct TrainerOptions {
  TrainConfig train;
  OptimizerConfig optimizer = {};
  bool shard_optimizer = false;
  torch::Device device = torch::kCPU;
  std::int64_t steps = 0;  // of the whole run, which the learning rate decays over
};

// The type of matrix products that a TrainConfig's precision names.
torch::ScalarType product_type(const std::string& precision);

struct StepHooks {
  std::function<void(const Action&)> before_action = {};  // may be empty
  std::vector<double> tell = {};                          // StepPolicy::tell
};

struct TrainerStep {
  StepRecord record;  // but for its seconds
  // Why nothing was updated, where record.skipped; empty: fp16 overflowed, as it now and then does.
  std::string fault = {};
  double usual_loss = 0;  // where record.spike: what it has been lately
  double makespan = 0;    // StepResult's
  // Of this rank, with the reduction and the update of all its stages (stage_times.h); on a device, which has not
  // come to it yet, with the update of the step before.
  std::vector<Event> events;
  std::vector<std::vector<double>> told;  // by rank
};

class Trainer {
 public:
  Trainer(const TrainerOptions& options,
          const std::vector<LayerSpec>& model,
          Plan plan,
          Transport& transport);

  // Throws Error on every rank where the loss or a gradient is none and options.train.not_finite is
  // "end", or options.train.skip_limit steps in a row were skipped; weights are then those before the step.
  TrainerStep step(const Batch& batch, const StepHooks& hooks);

  std::int64_t steps_done() const { return done_; }
  const LossScale& loss_scale() const { return loss_scale_; }
  Pipeline& pipeline() { return pipeline_; }

  // This rank's share, of the parameters at home here: copies, or what the trainer holds itself, as long as it makes no
  // step. How many samples the steps have taken is for whoever knows the data to say.
  enum class Share { Copied, Lent };
  Snapshot snapshot(Share how = Share::Copied) const;
  // Goes on from a snapshot, which holds at least the weights of this rank's parameters and the
  // moments of those that it updates. Throws Error, naming the parameter, where one is missing or of
  // another shape.
  void restore(const Snapshot& snapshot);
  // Weights alone: a run begins with them.
  void set_weights(const NamedTensors& weights);

 private:
  // An optimizer and what it updates: all of the rank, or, where stages are updated each at its own
  // time, a stage.
  struct Part {
    int stage;
    Optimizer optimizer;
  };

  ToUpdate to_update(const Part& part) const;
  void update(Part& part, double rate);
  // What the run says of a step whose numbers are none. Throws Error where it is to end the run.
  std::string meet_fault(const StepResult& result,
                         const StepInput& input,
                         const StepPolicy& policy);

  const TrainerOptions options_;
  Transport& transport_;
  Pipeline pipeline_;
  const bool asynchronous_;
  std::vector<Part> parts_;
  LossScale loss_scale_;
  LossTrend trend_;
  // Of the last step's update on a device: known with the next step's times.
  std::optional<std::pair<Instant, Instant>> unread_update_;
  std::int64_t skipped_ = 0;  // the last steps in a row, but for overflows
  std::int64_t done_ = 0;     // steps
};

}  // namespace headrace
