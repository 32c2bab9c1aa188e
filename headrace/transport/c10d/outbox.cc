#include "headrace/transport/c10d/outbox.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "headrace/transport/dense.h"

namespace headrace {
namespace {

// So many small messages may have left without being let go of.
constexpr std::size_t kHeld = 64;
constexpr auto kRoomPause = std::chrono::milliseconds(1);
// Between looks whether a device has come to a mark: each is twice as long as the one before.
constexpr auto kShortPause = std::chrono::microseconds(20),
               kLongPause = std::chrono::microseconds(640);
// And whether what goes straight has left: only its memory waits for that.
constexpr auto kLeavingPause = std::chrono::milliseconds(1);
// So many messages leave at a time: over the host one is copied while the one before leaves; straight ones wait for
// the peer on the device.
constexpr std::size_t kLeavingOverHost = 1, kLeavingStraight = 64;

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

Packed Outbox::packed(const Outgoing& message, const Tensors& values) const {
  return pack(message.label, message.sequence, message.sent, message.tensors, values,
              ring_ && !operations_.is_straight() ? kRingPart : kFirstPart);
}

void Outbox::send(const Label& label, const Tensors& tensors) {
  Outgoing message{label, sequence_++, shared_clock(*state_), dense(tensors, label), {}};
  bool in_turn = std::ranges::any_of(message.tensors, is_on_device);
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
  } catch (const ConnectionError& error) {
    const std::lock_guard lock(state_->mutex);
    set_broken(error.what());
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
  } catch (const std::exception& error) {  // no matter whose fault: it is the end
    const std::lock_guard lock(state_->mutex);
    set_broken(brief(error));
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

// None: nothing waits to be put out or let go of; or, where others leave, just now.
std::optional<Outbox::Sending> Outbox::next(bool others_leave) {
  std::unique_lock lock(state_->mutex);
  if (sending_.empty()) reaping_ = false;
  const auto is_there = [&] { return stopping_ || (reaping_ && !sending_.empty()); };
  if (others_leave)
    started_.wait_for(lock, kLeavingPause, is_there);
  else
    started_.wait(lock, is_there);
  if (stopping_) throw Ending();
  if (!reaping_ || sending_.empty()) return std::nullopt;
  Sending oldest = std::move(sending_.front());
  sending_.pop_front();
  return oldest;
}

// Of the oldest, those that have left, and waits for what is more than is to be kept.
void Outbox::let_go(std::deque<Leaving>& leaving, std::size_t kept) {
  while (!leaving.empty()) {
    const Leaving& oldest = leaving.front();
    const bool gone =
        !oldest.of_device.empty() && std::ranges::all_of(oldest.of_device, &Operations::is_done);
    if (!gone && leaving.size() <= kept) return;
    for (const GroupWork& work : oldest.of_host) operations_.finish(work);
    for (const GroupWork& work : oldest.of_device) operations_.finish(work);
    leaving.pop_front();
    note_left(1);
  }
}

void Outbox::run() {
  const torch::NoGradGuard no_grad;
  const std::size_t kept = operations_.is_straight() ? kLeavingStraight : kLeavingOverHost;
  try {
    const OwnStream beside(device_);
    std::deque<Leaving> leaving;
    while (true) {
      const bool straight_ones = !leaving.empty() && !leaving.front().of_device.empty();
      std::optional<Sending> oldest = next(!leaving.empty());
      if (!oldest) {
        let_go(leaving, straight_ones ? kept : 0);
      } else if (oldest->work) {
        let_go(leaving, kept);
        operations_.finish(oldest->work);
        oldest.reset();
        note_left(1);
      } else {
        std::optional<Leaving> put = put_out_in_turn(oldest->message);
        if (!put) return;
        oldest.reset();
        leaving.push_back(std::move(*put));
        let_go(leaving, kept);
      }
    }
  } catch (const Ending&) {
  } catch (const ConnectionError& error) {
    const std::lock_guard lock(state_->mutex);
    set_broken(error.what());
    sending_.clear();  // lets go of the tensors; unsent_ keeps telling that they have not left
  } catch (const std::exception&) {
    state_->fail(std::current_exception());
  }
}

std::optional<Outbox::Leaving> Outbox::put_out_in_turn(const Outgoing& message) {
  Tensors values = message.tensors;
  message.computed.come_after();
  if (!operations_.is_straight() && std::ranges::any_of(values, is_on_device)) {
    for (torch::Tensor& value : values)
      if (value.defined()) value = start_to_host(value);
    if (!has_come(Mark::now(device_))) return std::nullopt;
  }
  Leaving leaving{packed(message, values), {}, {}};
  if (!ring_)
    leaving.of_host.push_back(operations_.start_send(leaving.message.first, kFirstTag));
  else if (!put_when_there_is_room(leaving.message.first))
    return std::nullopt;
  for (const torch::Tensor& tensor : leaving.message.rest) {
    auto& works = tensor.is_cpu() ? leaving.of_host : leaving.of_device;
    works.push_back(operations_.start_send(tensor, kRestTag));
  }
  const std::lock_guard lock(state_->mutex);
  --waiting_;
  return leaving;
}

bool Outbox::has_come(const Mark& mark) {
  for (auto pause = kShortPause; !mark.reached(); pause = std::min(2 * pause, kLongPause)) {
    std::unique_lock lock(state_->mutex);
    if (started_.wait_for(lock, pause, [&] { return stopping_ || broken_; })) return false;
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
