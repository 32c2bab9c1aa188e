#include "headrace/runtime/executor.h"

#include <algorithm>
#include <cassert>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/tensor/exception_text.h"

namespace headrace {

std::vector<Event> events_of(const std::vector<Done>& done, const Stopwatch& watch) {
  std::vector<Event> events;
  events.reserve(done.size());
  for (const Done& each : done) {
    Event event{each.action, watch.seconds(each.start), watch.seconds(each.end)};
    if (each.ready) {
      // Until the other rank had sent, this one waited; from then on the message was on its way.
      const double ready = watch.seconds(*each.ready);
      const double sent = each.sent ? std::clamp(*each.sent, event.start, ready) : ready;
      event.wait = sent - event.start;
      event.transfer = ready - sent;
    }
    events.push_back(event);
  }
  return events;
}

Executor::Executor(Transport& transport,
                   Placement placement,
                   std::vector<Stage*> stages,
                   const Stopwatch& watch)
    : transport_(transport), placement_(std::move(placement)), watch_(watch) {
  for (Stage* stage : stages) stages_.emplace(stage->index(), stage);
}

void Executor::run(const Schedule& lowered, const RunOptions& options, Ends& ends) {
  run_ = &options;
  ends_ = &ends;
  done_.clear();
  const auto& actions = lowered.ranks[static_cast<std::size_t>(transport_.rank())];
  done_.reserve(actions.size());
  for (const Action& action : actions) {
    if (options.before_action) options.before_action(action);
    Done done{action, watch_.take(), {}};
    const auto where = [&] {
      return cat("rank ", transport_.rank(), " (stage ", action.stage,
                 host_text(transport_, transport_.rank()), "), ",
                 options.pass == Pass::Train ? cat("step ", options.step + 1)
                                             : cat("evaluation after step ", options.step),
                 ", ", to_string(action), ": ");
    };
    try {
      perform(action, done);
    } catch (const PeerError& error) {
      throw PeerError(error.peer, where() + error.what());
    } catch (const std::exception& error) {
      rethrow(error, where());
    }
    done.end = watch_.take();
    done_.push_back(std::move(done));
  }
  assert(arrivals_.empty() && handed_over_.empty() && outgoing_.empty());
}

void Executor::perform(const Action& action, Done& done) {
  switch (action.kind) {
    case Kind::Forward:
      return forward(action, done);
    case Kind::Backward:
    case Kind::BackwardInput:
      return backward(action, done);
    case Kind::BackwardWeight:
      return stage(action.stage).backward_weight(action.microbatch);
    case Kind::SendForward:
    case Kind::SendBackward:
      return send(action);
    case Kind::RecvForward:
    case Kind::RecvBackward:
      return post(action);
    case Kind::ReduceGradients:
      if (run_->stage_done) run_->stage_done(action.stage);
      return;
    case Kind::Update:
      check(run_->updates != nullptr, "nothing is there to update with");
      return run_->updates->update(action.stage);
  }
}

void Executor::forward(const Action& action, Done& done) {
  const int s = action.stage;
  const int m = action.microbatch;
  const bool last = s + 1 == placement_.stages();
  const Context context{.training = run_->pass == Pass::Train,
                        .step = run_->step,
                        .microbatch = m,
                        .key = keyed(run_->key, m),
                        .targets = last ? ends_->targets(m) : torch::Tensor(),
                        .normaliser = run_->normaliser ? run_->normaliser(m) : 1,
                        .backward_scale = run_->backward_scale,
                        .precision = run_->precision};
  const int version = run_->updates != nullptr ? run_->updates->version(s, m) : -1;
  Tensors inputs = s == 0 ? ends_->inputs(m) : take_input({true, s, m}, done);
  Tensors outputs = stage(s).forward(m, inputs, context, version);
  inputs.clear();
  if (!last) return pass_on(true, s, s + 1, m, std::move(outputs));
  ends_->take_outputs(m, outputs);
}

void Executor::backward(const Action& action, Done& done) {
  const int s = action.stage;
  const int m = action.microbatch;
  const bool last = s + 1 == placement_.stages();
  const Tensors gradients = last ? ends_->output_gradients(m) : take_input({false, s, m}, done);
  Tensors input_gradients = action.kind == Kind::Backward ? stage(s).backward(m, gradients)
                                                          : stage(s).backward_input(m, gradients);
  if (s == 0) return ends_->take_input_gradients(m, input_gradients);
  pass_on(false, s, s - 1, m, std::move(input_gradients));
}

void Executor::pass_on(bool is_forward, int from, int to, int microbatch, Tensors tensors) {
  const bool here = placement_.rank(to, microbatch) == transport_.rank();
  auto& destination = here ? handed_over_ : outgoing_;
  destination.emplace(Slot{is_forward, here ? to : from, microbatch}, std::move(tensors));
}

void Executor::send(const Action& action) {
  const bool is_forward = action.kind == Kind::SendForward;
  const int to = placement_.rank(action.stage + (is_forward ? 1 : -1), action.microbatch);
  auto tensors = outgoing_.extract({is_forward, action.stage, action.microbatch});
  check(!tensors.empty(), "there is nothing to send yet");
  transport_.send(to,
                  {is_forward ? Purpose::Activations : Purpose::Gradients, message_step(),
                   action.stage, action.microbatch},
                  tensors.mapped());
}

void Executor::post(const Action& action) {
  const bool is_forward = action.kind == Kind::RecvForward;
  const int source = action.stage + (is_forward ? -1 : 1);
  const int from = placement_.rank(source, action.microbatch);
  arrivals_.emplace(
      Slot{is_forward, action.stage, action.microbatch},
      transport_.receive(from, {is_forward ? Purpose::Activations : Purpose::Gradients,
                                message_step(), source, action.microbatch}));
}

// Messages of an evaluation are told by the step they come after.
std::int64_t Executor::message_step() const {
  return run_->pass == Pass::Train ? run_->step : run_->step - 1;
}

Tensors Executor::take_input(const Slot& slot, Done& done) {
  if (auto handed = handed_over_.extract(slot); !handed.empty()) return std::move(handed.mapped());
  auto arrival = arrivals_.extract(slot);
  check(!arrival.empty(), "its input was never asked for");
  Message message = arrival.mapped()->wait();
  done.ready = watch_.take();
  if (!watch_.is_of_device()) done.sent = message.sent;
  return std::move(message.tensors);
}

Stage& Executor::stage(int index) {
  const auto found = stages_.find(index);
  check(found != stages_.end(), "stage ", index, " is not on this rank");
  return *found->second;
}

}  // namespace headrace
