#include "headrace/transport/c10d/link.h"

#include <cassert>
#include <chrono>
#include <utility>

#include "headrace/transport/dense.h"

namespace headrace {

namespace {

constexpr int kFirstTag = 0;  // plus kTags a channel
constexpr int kRestTag = 1;
constexpr int kTags = 2;
// First parts of this many messages are taken in before their receives are posted.
constexpr int kExpected = 8;
// So many small messages may have left without being let go of.
constexpr std::size_t kHeld = 64;
constexpr auto kForever = std::chrono::hours(24 * 365);
constexpr auto kRingPause = std::chrono::milliseconds(20);  // between looks whether to go on
constexpr auto kNone = std::chrono::milliseconds(0);
constexpr auto kRoomPause = std::chrono::milliseconds(1);

// An operation was ended: the link is being destroyed, or the caller's wait is over.
struct Ending {};

}  // namespace

Link::Link(std::shared_ptr<RunState> state,
           GroupBackend backend,
           DeviceGroups groups,
           std::optional<Rings> rings,
           int peer,
           int channel,
           torch::Device device)
    : state_(std::move(state)),
      backend_(std::move(backend)),
      groups_(std::move(groups)),
      rings_(rings),
      peer_(peer),
      channel_(channel),
      device_(device) {}

Link::~Link() {
  {
    const std::lock_guard lock(state_->mutex);
    stopping_ = true;
    receive_posted_.notify_all();
    send_started_.notify_all();
  }
  {
    const std::lock_guard lock(works_mutex_);
    ending_ = true;
    for (const GroupWork& work : works_) work->abort();
  }
  if (receiver_.joinable()) receiver_.join();
  if (end_watch_.joinable()) end_watch_.join();
  if (reaper_.joinable()) reaper_.join();
}

GroupWork Link::start(bool sending, torch::Tensor tensor, int tag) {
  const bool device = !tensor.is_cpu();
  const GroupBackend& group = !device                             ? backend_
                              : (state_->rank < peer_) == sending ? groups_.to_higher
                                                                  : groups_.to_lower;
  std::vector<torch::Tensor> tensors = {std::move(tensor)};
  const std::lock_guard lock(works_mutex_);
  if (ending_) throw Ending();
  tag += kTags * channel_;
  GroupWork work = sending ? group->send(tensors, peer_, tag) : group->recv(tensors, peer_, tag);
  works_.insert(work);
  return work;
}

void Link::finish(const GroupWork& work) {
  const auto forget = [&] {
    const std::lock_guard lock(works_mutex_);
    works_.erase(work);
    if (ending_) throw Ending();
  };
  bool done = false;
  try {
    done = work->wait(kForever);
  } catch (const std::exception&) {
    forget();
    throw;
  }
  forget();
  if (!done) throw Ending();
}

void Link::set_broken(std::optional<std::string>& which, const std::string& why) {
  const std::lock_guard lock(state_->mutex);
  if (!which) which = why;
  state_->changed.notify_all();
}

void Link::set_ended() {
  const std::lock_guard lock(state_->mutex);
  ended_ = true;
  receive_broken_ = "the peer has ended";
  state_->changed.notify_all();
}

void Link::send(const Label& label, const Tensors& tensors) {
  if (rings_) listen();
  // What can go straight from device to device is to take no way through the CPU.
  const bool device_to_device = groups_.to_higher != nullptr;
  const Packed packed =
      pack(label, sequence_++, shared_clock(*state_), dense(tensors, label),
           rings_ && !device_to_device ? kRingPart : kFirstPart, device_to_device);
  try {
    send_first(packed.first);
    for (const torch::Tensor& tensor : packed.rest) send_over_backend(tensor, kRestTag);
  } catch (const std::exception& error) {
    set_broken(send_broken_, brief(error));
  }
  // Waking a thread costs more than a small message holds: those are let go of many at a time.
  const std::lock_guard lock(state_->mutex);
  if (!packed.rest.empty() || unput_ > 0 || sending_.size() >= kHeld) reap();
}

void Link::send_first(const torch::Tensor& first) {
  if (!rings_) return send_over_backend(first, kFirstTag);
  {
    const std::lock_guard lock(state_->mutex);
    if (unput_ == 0 && rings_->out.try_put(first)) return;
    sending_.push_back({first, {}});
    ++unput_;
    ++unsent_;
  }
  if (!reaper_.joinable()) reaper_ = std::thread([this] { reap_all(); });
}

void Link::send_over_backend(const torch::Tensor& tensor, int tag) {
  GroupWork work = start(true, tensor, tag);
  {
    const std::lock_guard lock(state_->mutex);
    if (send_broken_) return;
    sending_.push_back({tensor, std::move(work)});
    ++unsent_;
  }
  if (!reaper_.joinable()) reaper_ = std::thread([this] { reap_all(); });
}

void Link::end() {
  try {
    send_over_backend(pack_end(sequence_++), kFirstTag);
  } catch (const std::exception& error) {
    set_broken(send_broken_, brief(error));
  }
  const std::lock_guard lock(state_->mutex);
  reap();
}

void Link::reap() {
  reaping_ = true;
  send_started_.notify_one();
}

void Link::reap_all() {
  try {
    while (true) {
      Sending oldest;
      {
        std::unique_lock lock(state_->mutex);
        if (sending_.empty()) reaping_ = false;
        send_started_.wait(lock, [&] { return stopping_ || (reaping_ && !sending_.empty()); });
        if (stopping_) return;
        oldest = std::move(sending_.front());
        sending_.pop_front();
      }
      if (oldest.work)
        finish(oldest.work);
      else if (!put_when_there_is_room(oldest.tensor))
        return;
      oldest = {};
      const std::lock_guard lock(state_->mutex);
      if (--unsent_ == 0) state_->changed.notify_all();
    }
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    set_broken(send_broken_, brief(error));
    const std::lock_guard lock(state_->mutex);
    sending_.clear();  // lets go of the tensors; unsent_ keeps telling that they have not left
  }
}

bool Link::put_when_there_is_room(const torch::Tensor& first) {
  std::unique_lock lock(state_->mutex);
  while (!rings_->out.try_put(first)) {
    if (stopping_ || send_broken_) return false;
    send_started_.wait_for(lock, kRoomPause, [&] { return stopping_; });
  }
  --unput_;
  return true;
}

void Link::start_receiving() {
  if (!receiver_.joinable()) receiver_ = std::thread([this] { receive_all(); });
}

std::shared_ptr<Posted> Link::post(const Label& label) {
  auto posted = std::make_shared<Posted>();
  posted->label = label;
  {
    const std::lock_guard lock(state_->mutex);
    posted_.push_back(posted);
  }
  listen();
  if (!rings_) start_receiving();
  if (receiver_.joinable())
    receive_posted_.notify_one();  // not under the lock, which the other thread would run into
  return posted;
}

void Link::drain() {
  {
    const std::lock_guard lock(state_->mutex);
    draining_ = true;
    receive_posted_.notify_one();
  }
  listen();
  start_receiving();
}

std::shared_ptr<Posted> Link::next_posted() {
  std::unique_lock lock(state_->mutex);
  receive_posted_.wait(lock, [&] { return stopping_ || draining_ || !posted_.empty(); });
  if (stopping_) throw Ending();
  if (posted_.empty()) return std::make_shared<Posted>();
  auto posted = std::move(posted_.front());
  posted_.pop_front();
  return posted;
}

void Link::listen() {
  if (listening_) return;
  listening_ = true;
  try {
    for (int i = 0; i < (rings_ ? 1 : kExpected); ++i)
      expect_first(torch::empty({kFirstPart}, torch::kUInt8));
  } catch (const std::exception& error) {
    set_broken(receive_broken_, brief(error));
  }
  if (rings_) end_watch_ = std::thread([this] { watch_end(); });
}

void Link::expect_first(torch::Tensor bytes) {
  GroupWork work = start(false, bytes, kFirstTag);
  expected_.push_back({std::move(bytes), std::move(work)});
}

torch::Tensor Link::take_from_backend() {
  if (expected_.empty()) return {};  // the link is broken
  const Expected oldest = std::move(expected_.front());
  expected_.pop_front();
  finish(oldest.work);
  return oldest.bytes;
}

void Link::watch_end() {
  std::string why = "the peer has ended";
  try {
    while (true) {
      const torch::Tensor first = take_from_backend();
      if (!first.defined()) return;
      assert(open_first(first).end);
      {
        const std::lock_guard lock(state_->mutex);
        end_told_ = true;
        connection_over_ = why;
      }
      expect_first(first);  // only for the connection's end
    }
  } catch (const Ending&) {
    return;
  } catch (const std::exception& error) {
    why = brief(error);
  }
  {
    const std::lock_guard lock(state_->mutex);
    if (!connection_over_) connection_over_ = why;
  }
  set_broken(send_broken_, why);
}

torch::Tensor Link::take_first(const std::function<bool()>& stop) {
  if (!rings_) return take_from_backend();
  while (true) {
    std::optional<std::string> over;
    bool ended = false;
    {
      // Before the look into the ring: what was put in before the end is found.
      const std::lock_guard lock(state_->mutex);
      over = connection_over_;
      ended = end_told_;
    }
    torch::Tensor first = rings_->in.take(over ? kNone : kRingPause);
    if (first.defined()) return first;
    if (ended) set_ended();
    if (over) throw Error(*over);
    if (stop()) throw Ending();
  }
}

Received Link::receive_rest(const Opened& opened, const torch::Tensor& first) {
  torch::Tensor descriptions;
  if (opened.descriptions_apart) {
    descriptions = torch::empty({opened.descriptions}, torch::kUInt8);
    finish(start(false, descriptions, kRestTag));
  }
  const bool device_to_device = groups_.to_higher != nullptr;
  Received received = receive_buffers(opened, first, descriptions,
                                      device_to_device ? device_ : torch::Device(torch::kCPU));
  if (opened.values_inside) return received;
  std::vector<GroupWork> works;
  for (const torch::Tensor& tensor : received.tensors)
    if (tensor.defined() && tensor.numel() > 0) works.push_back(start(false, tensor, kRestTag));
  for (const GroupWork& work : works) finish(work);
  return received;
}

void Link::deliver(const torch::Tensor& first, const Opened& opened) {
  assert(opened.sequence == received_);
  ++received_;
  const std::shared_ptr<Posted> posted = next_posted();
  Received received;
  try {
    received = receive_rest(opened, first);
  } catch (const Ending& ending) {
    set_broken(receive_broken_, "the wait for it ended in the middle of a message");
    throw;
  }
  for (std::size_t i = 0; i < received.tensors.size(); ++i) {
    torch::Tensor& tensor = received.tensors[i];
    if (!tensor.defined()) continue;
    if (received.on_device[i]) tensor = tensor.to(device_);
    tensor.set_requires_grad(received.requires_grad[i]);
  }
  const std::lock_guard lock(state_->mutex);
  posted->message = {std::move(received.tensors), opened.sent, shared_clock(*state_)};
  if (posted->label != opened.label) posted->mismatch = to_string(opened.label);
  posted->done = true;
}

void Link::receive_all() {
  const torch::NoGradGuard no_grad;
  const auto stop = [this] {
    const std::lock_guard lock(state_->mutex);
    return stopping_;
  };
  try {
    while (true) {
      const torch::Tensor first = held_.defined() ? std::exchange(held_, {}) : take_first(stop);
      if (!first.defined()) return;
      const Opened opened = open_first(first);
      if (opened.end) return set_ended();
      deliver(first, opened);
      if (!rings_) expect_first(first);
      state_->changed.notify_all();
    }
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    set_broken(receive_broken_, brief(error));
  }
}

void Link::take_until_done(const Posted& posted, const std::function<bool()>& stop) {
  const torch::NoGradGuard no_grad;
  try {
    while (!posted.done) {
      const torch::Tensor first = take_first(stop);
      const Opened opened = open_first(first);
      if (!opened.values_inside) {
        held_ = first;
        return start_receiving();
      }
      deliver(first, opened);
    }
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    set_broken(receive_broken_, brief(error));
  }
}

}  // namespace headrace
