#include "headrace/transport/c10d/outbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "headrace/transport/dense.h"

namespace headrace {
namespace {

// So many small messages may have left without being let go of.
constexpr std::size_t kHeld = 64;
constexpr auto kRoomPause = std::chrono::milliseconds(1);
constexpr auto kDevicePause = std::chrono::microseconds(50);

bool is_on_device(const torch::Tensor& tensor) {
  return tensor.defined() && !tensor.is_cpu();
}

}  // namespace

Outbox::Outbox(std::shared_ptr<RunState> state,
               Operations& operations,
               std::optional<Ring> ring,
               torch::Device device)
    : state_(std::move(state)), operations_(operations), ring_(ring), device_(device) {}

Outbox::~Outbox() {
  if (sender_.joinable()) sender_.join();
}

void Outbox::stop() {
  stopping_ = true;
  started_.notify_all();
}

void Outbox::set_broken(const std::string& why) {
  if (!broken_) broken_ = why;
  state_->changed.notify_all();
}

void Outbox::break_off(const std::exception& error) {
  const std::string why = brief(error);
  const std::lock_guard lock(state_->mutex);
  set_broken(why);
}

bool Outbox::goes_over_host(const Tensors& tensors) const {
  return !operations_.is_straight() && std::ranges::any_of(tensors, is_on_device);
}

Packed Outbox::packed(const Outgoing& message, const Tensors& values) const {
  return pack(message.label, message.sequence, message.sent, message.tensors, values,
              ring_ && !operations_.is_straight() ? kRingPart : kFirstPart);
}

void Outbox::send(const Label& label, const Tensors& tensors) {
  Outgoing message{label, sequence_++, shared_clock(*state_), dense(tensors, label), {}};
  bool in_turn = goes_over_host(message.tensors);
  if (!in_turn) {
    const std::lock_guard lock(state_->mutex);
    in_turn = waiting_ > 0;
  }
  try {
    if (!in_turn) {
      const Packed ready = packed(message, message.tensors);
      const bool fits = !ring_ || ring_->try_put(ready.first);
      if (fits) return put_out(ready);
    }
    put_out_later(std::move(message));
  } catch (const std::exception& error) {
    break_off(error);
  }
}

// All but what has gone into the ring.
void Outbox::put_out(const Packed& message) {
  if (!ring_) start(message.first, kFirstTag);
  for (const torch::Tensor& tensor : message.rest) start(tensor, kRestTag);
  // Waking a thread costs more than a small message holds: those are let go of many at a time.
  const std::lock_guard lock(state_->mutex);
  if (!message.rest.empty() || sending_.size() >= kHeld) reap();
}

void Outbox::put_out_later(Outgoing message) {
  if (std::ranges::any_of(message.tensors, is_on_device)) message.computed = Mark::now(device_);
  {
    const std::lock_guard lock(state_->mutex);
    if (broken_) return;
    sending_.push_back({{}, {}, std::move(message)});
    ++waiting_;
    ++unsent_;
    reap();
  }
  if (!sender_.joinable()) sender_ = std::thread([this] { run(); });
}

void Outbox::start(const torch::Tensor& tensor, int tag) {
  GroupWork work = operations_.start_send(tensor, tag);
  {
    const std::lock_guard lock(state_->mutex);
    if (broken_) return;
    sending_.push_back({tensor, std::move(work), {}});
    ++unsent_;
  }
  if (!sender_.joinable()) sender_ = std::thread([this] { run(); });
}

void Outbox::end() {
  try {
    start(pack_end(sequence_++), kFirstTag);
  } catch (const std::exception& error) {
    break_off(error);
  }
  const std::lock_guard lock(state_->mutex);
  reap();
}

void Outbox::reap() {
  reaping_ = true;
  started_.notify_one();
}

void Outbox::note_left(std::size_t count) {
  const std::lock_guard lock(state_->mutex);
  unsent_ -= count;
  if (unsent_ == 0) state_->changed.notify_all();
}

void Outbox::run() {
  const torch::NoGradGuard no_grad;
  try {
    const OwnStream beside(device_);
    // The last message that this thread has put out: it leaves while the next one comes to the host.
    std::optional<Leaving> leaving;
    const auto wait_for_it = [&] {
      if (!leaving) return;
      for (const GroupWork& work : leaving->works) operations_.finish(work);
      leaving.reset();
      note_left(1);
    };
    while (true) {
      Sending oldest;
      bool none = false;
      {
        std::unique_lock lock(state_->mutex);
        if (sending_.empty()) reaping_ = false;
        started_.wait(lock,
                      [&] { return stopping_ || leaving || (reaping_ && !sending_.empty()); });
        if (stopping_) return;
        none = sending_.empty();
        if (!none) {
          oldest = std::move(sending_.front());
          sending_.pop_front();
        }
      }
      if (none || oldest.work) wait_for_it();
      if (none) continue;
      if (oldest.work) {
        operations_.finish(oldest.work);
        oldest = {};
        note_left(1);
        continue;
      }
      std::optional<Leaving> next = put_out_in_turn(oldest.message);
      if (!next) return;
      wait_for_it();
      leaving = std::move(next);
    }
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    const std::string why = brief(error);
    const std::lock_guard lock(state_->mutex);
    set_broken(why);
    sending_.clear();  // lets go of the tensors; unsent_ keeps telling that they have not left
  }
}

std::optional<Outbox::Leaving> Outbox::put_out_in_turn(const Outgoing& message) {
  Tensors values = message.tensors;
  message.computed.come_after();
  if (goes_over_host(values)) {
    for (torch::Tensor& value : values)
      if (value.defined()) value = start_to_host(value);
    if (!has_come(Mark::now(device_))) return std::nullopt;
  }
  Leaving leaving{packed(message, values), {}};
  if (!ring_)
    leaving.works.push_back(operations_.start_send(leaving.message.first, kFirstTag));
  else if (!put_when_there_is_room(leaving.message.first))
    return std::nullopt;
  for (const torch::Tensor& tensor : leaving.message.rest)
    leaving.works.push_back(operations_.start_send(tensor, kRestTag));
  const std::lock_guard lock(state_->mutex);
  --waiting_;
  return leaving;
}

bool Outbox::has_come(const Mark& mark) {
  while (!mark.reached()) {
    std::unique_lock lock(state_->mutex);
    if (started_.wait_for(lock, kDevicePause, [&] { return stopping_ || broken_; })) return false;
  }
  return true;
}

bool Outbox::put_when_there_is_room(const torch::Tensor& first) {
  while (!ring_->try_put(first)) {
    std::unique_lock lock(state_->mutex);
    if (started_.wait_for(lock, kRoomPause, [&] { return stopping_ || broken_; })) return false;
  }
  return true;
}

}  // namespace headrace
