// Runs one rank's part of a lowered schedule: walks its list, one action after the other. It knows
// no schedule's name.
//
//   Executor executor(transport, schedule.placement, stages);
//   executor.run(lowered, {.step = 7, .inputs = …, .targets = …, .loss_scale = …});
//
// A send is started and its tensors kept until they are gone; a receive is posted where the
// schedule says and waited for by its consumer. Where the next stage is on the same rank the
// tensors are handed over, not sent. Every action is recorded, its wait apart from its work. A
// failed action raises Error with rank, stage, action, step and cause, and PeerError where the
// cause is another rank.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "headrace/runtime/stage.h"
#include "headrace/schedule/schedule.h"
#include "headrace/timeline/timeline.h"
#include "headrace/transport/transport.h"

namespace headrace {

// What one run of a schedule is fed with.
struct Feed {
  // From 0; of a run that does not train: how many steps were done before it.
  std::int64_t step = 0;
  bool training = true;
  std::uint64_t key = 0;                          // of the step's random draws
  std::function<double(int)> loss_scale;          // of the sum of a microbatch's token losses
  double gradient_scale = 1;                      // what a loss's backward starts from
  torch::ScalarType precision = torch::kFloat32;  // of matrix products
  std::function<Tensors(int)> inputs;             // of a microbatch, for the first stage
  std::function<torch::Tensor(int)> targets;  // of a microbatch, for the last stage; may be empty
  std::function<void(const Action&)> on_action;  // called before each action; may be empty
  std::function<void(int)> on_reduce;            // a stage's last backward is done; may be empty
  // Of asynchronous schedules: a stage is to be updated; and with which version of a stage's
  // weights a microbatch is computed.
  std::function<void(int)> on_update;
  std::function<int(int, int)> version;
  // Instead of a loss: takes what the last stage gives for a microbatch; the gradients to start its
  // backward from; and takes the gradients of what the first stage was given.
  std::function<void(int, const Tensors&)> on_output;
  std::function<Tensors(int)> output_gradients;
  std::function<void(int, const Tensors&)> on_input_gradients;
};

// What it gives back, on the ranks that hold the last stage; empty elsewhere.
struct Losses {
  std::map<int, double> loss;           // by microbatch, scaled
  std::map<int, std::int64_t> correct;  // by microbatch; outside training
};

class Executor {
 public:
  Executor(Transport& transport, Placement placement, std::vector<Stage*> stages);

  Losses run(const Schedule& lowered, const Feed& feed);

  // Of the last run, on this rank.
  const std::vector<Event>& events() const { return events_; }

 private:
  // A tensor list on its way: activations into a stage (forward) or gradients into it (backward).
  using Slot = std::tuple<bool, int, int>;  // forward?, stage, microbatch

  void perform(const Action& action, Event& event);
  void forward(const Action& action, Event& event);
  void backward(const Action& action, Event& event);
  void send(const Action& action);
  void post(const Action& action);
  Tensors take_input(const Slot& slot, Event& event);
  std::int64_t message_step() const;
  void pass_on(bool is_forward, int from, int to, int microbatch, Tensors tensors);
  Stage& stage(int index);

  Transport& transport_;
  Placement placement_;
  std::map<int, Stage*> stages_;
  const Feed* feed_ = nullptr;
  Losses losses_;
  std::map<Slot, std::unique_ptr<Arrival>> arrivals_;
  std::map<Slot, Tensors> handed_over_;
  std::map<Slot, Tensors> outgoing_;
  std::vector<Event> events_;
};

}  // namespace headrace
