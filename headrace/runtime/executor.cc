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

Executor::Executor(Transport& transport, Placement placement, std::vector<Stage*> stages)
    : transport_(transport), placement_(std::move(placement)) {
  for (Stage* stage : stages) stages_.emplace(stage->index(), stage);
}

Losses Executor::run(const Schedule& lowered, const Feed& feed) {
  feed_ = &feed;
  losses_ = {};
  events_.clear();
  const auto& actions = lowered.ranks[static_cast<std::size_t>(transport_.rank())];
  events_.reserve(actions.size());
  for (const Action& action : actions) {
    if (feed.on_action) feed.on_action(action);
    Event event{action, transport_.clock(), 0, 0, 0};
    const auto where = [&] {
      return cat(
          "rank ", transport_.rank(), " (stage ", action.stage, "), ",
          feed.training ? cat("step ", feed.step + 1) : cat("evaluation after step ", feed.step),
          ", ", to_string(action), ": ");
    };
    try {
      perform(action, event);
    } catch (const PeerError& error) {
      throw PeerError(error.peer, where() + error.what());
    } catch (const std::exception& error) {
      throw Error(where() + text_of(error));
    }
    event.end = transport_.clock();
    events_.push_back(event);
  }
  assert(arrivals_.empty() && handed_over_.empty() && outgoing_.empty());
  feed_ = nullptr;
  return std::exchange(losses_, {});
}

void Executor::perform(const Action& action, Event& event) {
  switch (action.kind) {
    case Kind::Forward:
      return forward(action, event);
    case Kind::Backward:
    case Kind::BackwardInput:
      return backward(action, event);
    case Kind::BackwardWeight:
      return stage(action.stage).backward_weight(action.microbatch);
    case Kind::SendForward:
    case Kind::SendBackward:
      return send(action);
    case Kind::RecvForward:
    case Kind::RecvBackward:
      return post(action);
    case Kind::ReduceGradients:
      if (feed_->on_reduce) feed_->on_reduce(action.stage);
      return;
    case Kind::Update:
      check(static_cast<bool>(feed_->on_update), "nothing is there to update with");
      return feed_->on_update(action.stage);
  }
}

void Executor::forward(const Action& action, Event& event) {
  const int s = action.stage;
  const int m = action.microbatch;
  const bool last = s + 1 == placement_.stages();
  Context context;
  context.training = feed_->training;
  context.microbatch = m;
  context.key = keyed(feed_->key, m);
  context.loss_scale = feed_->loss_scale(m);
  context.gradient_scale = feed_->gradient_scale;
  context.precision = feed_->precision;
  const int version = feed_->version ? feed_->version(s, m) : -1;
  constexpr std::int64_t kVersions = 1 << 20;  // more than a step has
  context.weights = feed_->step * kVersions + version + 1;
  if (last && feed_->targets) context.targets = feed_->targets(m);
  Tensors inputs = s == 0 ? feed_->inputs(m) : take_input({true, s, m}, event);
  Tensors outputs = stage(s).forward(m, inputs, context, version);
  inputs.clear();
  if (!last) return pass_on(true, s, s + 1, m, std::move(outputs));
  if (feed_->on_output) return feed_->on_output(m, outputs);
  losses_.loss.emplace(m, outputs[0].item<double>());
  if (!feed_->training && outputs.size() > 1)
    losses_.correct.emplace(m, outputs[1].item<std::int64_t>());
}

void Executor::backward(const Action& action, Event& event) {
  const int s = action.stage;
  const int m = action.microbatch;
  const bool last = s + 1 == placement_.stages();
  const Tensors gradients = !last                     ? take_input({false, s, m}, event)
                            : feed_->output_gradients ? feed_->output_gradients(m)
                                                      : Tensors();
  Tensors input_gradients = action.kind == Kind::Backward ? stage(s).backward(m, gradients)
                                                          : stage(s).backward_input(m, gradients);
  if (s == 0 && feed_->on_input_gradients) feed_->on_input_gradients(m, input_gradients);
  if (s > 0) pass_on(false, s, s - 1, m, std::move(input_gradients));
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
  return feed_->training ? feed_->step : feed_->step - 1;
}

Tensors Executor::take_input(const Slot& slot, Event& event) {
  if (auto handed = handed_over_.extract(slot); !handed.empty()) return std::move(handed.mapped());
  auto arrival = arrivals_.extract(slot);
  check(!arrival.empty(), "its input was never asked for");
  Message message = arrival.mapped()->wait();
  // Until the other rank had sent, this one waited; from then on the message was on its way.
  const double now = transport_.clock();
  const double sent = std::clamp(message.sent, event.start, now);
  event.wait = sent - event.start;
  event.transfer = now - sent;
  return std::move(message.tensors);
}

Stage& Executor::stage(int index) {
  const auto found = stages_.find(index);
  check(found != stages_.end(), "stage ", index, " is not on this rank");
  return *found->second;
}

}  // namespace headrace
