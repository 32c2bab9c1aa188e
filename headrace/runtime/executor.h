// Runs one rank's part of a lowered schedule: walks its list, one action after the other. It knows
// no schedule's name.
//
//   Executor executor(transport, schedule.placement, stages, watch);
//   executor.run(lowered, {.step = 7, .key = key}, ends);
//   watch.read();                      // where stages are on a device, once it has done all of it
//   events_of(executor.done(), watch);
//
// A send is started and its tensors kept until they are gone; a receive is posted where the
// schedule says and waited for by its consumer. Where the next stage is on the same rank the
// tensors are handed over, not sent. Every action is recorded, its wait apart from its work; on a device what an
// action waits for includes the message's way. The order of the actions is that of the work on the device. A
// failed action raises Error with rank, stage, action, step and cause, and PeerError where the
// cause is another rank.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "headrace/plan/plan.h"
#include "headrace/runtime/ends.h"
#include "headrace/runtime/stage.h"
#include "headrace/runtime/stopwatch.h"
#include "headrace/schedule/schedule.h"
#include "headrace/timeline/timeline.h"
#include "headrace/transport/transport.h"

namespace headrace {

// Of asynchronous schedules.
struct Updates {
  // With which version of a stage's weights a microbatch is computed.
  std::function<int(int stage, int microbatch)> version;
  std::function<void(int stage)> update;  // a stage is to be updated
};

// What one run of a schedule is told.
struct RunOptions {
  // From 0; of an evaluation: how many steps were done before it.
  std::int64_t step = 0;
  Pass pass = Pass::Train;
  std::uint64_t key = 0;                          // of the step's random draws
  torch::ScalarType precision = torch::kFloat32;  // of matrix products
  // What the sum of a microbatch's token losses is multiplied by; empty: 1.
  std::function<double(int)> normaliser = {};
  double backward_scale = 1;                              // what a loss's backward starts from
  std::function<void(const Action&)> before_action = {};  // may be empty
  // A stage's last backward is done; may be empty.
  std::function<void(int)> stage_done = {};
  const Updates* updates = nullptr;  // where the schedule is asynchronous
};

// An action's times. It waited until `ready`, or, on the CPU, where the two can be told apart, until `sent`, when
// its message was started.
struct Done {
  Action action;
  Instant start, end;
  std::optional<Instant> ready = {};
  std::optional<double> sent = {};
};
// What was done, once the watch has been read since.
std::vector<Event> events_of(const std::vector<Done>& done, const Stopwatch& watch);

class Executor {
 public:
  // `watch` is of the device that the stages are on, and must outlive this.
  Executor(Transport& transport,
           Placement placement,
           std::vector<Stage*> stages,
           const Stopwatch& watch);

  void run(const Schedule& lowered, const RunOptions& options, Ends& ends);

  // Of the last run, on this rank.
  const std::vector<Done>& done() const { return done_; }

 private:
  // A tensor list on its way: activations into a stage (forward) or gradients into it (backward).
  using Slot = std::tuple<bool, int, int>;  // forward?, stage, microbatch

  void perform(const Action& action, Done& done);
  void forward(const Action& action, Done& done);
  void backward(const Action& action, Done& done);
  void send(const Action& action);
  void post(const Action& action);
  Tensors take_input(const Slot& slot, Done& done);
  std::int64_t message_step() const;
  void pass_on(bool is_forward, int from, int to, int microbatch, Tensors tensors);
  Stage& stage(int index);

  Transport& transport_;
  Placement placement_;
  std::map<int, Stage*> stages_;
  const RunOptions* run_ = nullptr;  // the one under way
  Ends* ends_ = nullptr;
  std::map<Slot, std::unique_ptr<Arrival>> arrivals_;
  std::map<Slot, Tensors> handed_over_;
  std::map<Slot, Tensors> outgoing_;
  const Stopwatch& watch_;
  std::vector<Done> done_;
};

}  // namespace headrace
