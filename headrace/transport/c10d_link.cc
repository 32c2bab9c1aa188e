#include "headrace/transport/c10d_link.h"

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
// Expecting again tells the peer, and costs both ranks a wake-up: so many at a time.
constexpr std::size_t kTaken = 4;
// So many small messages may have left without being let go of.
constexpr std::size_t kHeld = 64;
constexpr auto kSpin = std::chrono::microseconds(200);
constexpr auto kForever = std::chrono::hours(24 * 365);

// A message that is about to come is not worth going to sleep for: waking up again may take longer.
// Others that want this core, as Gloo's thread, get it.
void spin(const torch::Tensor& first) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  while (!has_begun(first) && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

// An operation was ended: the link is being destroyed, or the caller's wait is over.
struct Ending {};

}  // namespace

Link::Link(std::shared_ptr<RunState> state,
           GroupBackend backend,
           DeviceGroups groups,
           int peer,
           int channel,
           torch::Device device)
    : state_(std::move(state)),
      backend_(std::move(backend)),
      groups_(std::move(groups)),
      peer_(peer),
      channel_(channel),
      device_(device) {}

Link::~Link() {
  {
    const std::lock_guard lock(state_->mutex);
    stopping_ = true;
    slot_posted_.notify_all();
    send_started_.notify_all();
  }
  {
    const std::lock_guard lock(works_mutex_);
    ending_ = true;
    for (const GroupWork& work : works_) work->abort();
  }
  if (receiver_.joinable()) receiver_.join();
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
    if (awaited_ == work) awaited_.reset();
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

void Link::finish_receive(const GroupWork& work) {
  {
    const std::lock_guard lock(works_mutex_);
    awaited_ = work;
  }
  finish(work);
}

void Link::interrupt() {
  const std::lock_guard lock(works_mutex_);
  if (awaited_) awaited_->abort();
}

void Link::set_broken(std::optional<std::string>& which, const std::exception& error) {
  const std::lock_guard lock(state_->mutex);
  if (!which) which = brief(error);
  state_->changed.notify_all();
}

void Link::send(const Label& label, const Tensors& tensors) {
  send(pack(label, sequence_++, shared_clock(*state_), dense(tensors, label),
            groups_.to_higher != nullptr));
}

void Link::end() {
  send({pack_end(sequence_++), {}});
}

void Link::send(const Packed& packed) {
  if (!reaper_.joinable()) reaper_ = std::thread([this] { reap_all(); });
  try {
    const auto go = [&](const torch::Tensor& tensor, int tag) {
      GroupWork work = start(true, tensor, tag);
      const std::lock_guard lock(state_->mutex);
      if (send_broken_) return;
      sending_.push_back({{tensor}, std::move(work)});
      ++unsent_;
    };
    go(packed.first, kFirstTag);
    for (const torch::Tensor& tensor : packed.rest) go(tensor, kRestTag);
  } catch (const std::exception& error) {
    set_broken(send_broken_, error);
  }
  // Waking a thread costs more than a small message holds: those are let go of many at a time.
  const std::lock_guard lock(state_->mutex);
  if (!packed.rest.empty() || sending_.size() >= kHeld) reap();
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
      finish(oldest.work);
      oldest = {};
      const std::lock_guard lock(state_->mutex);
      if (--unsent_ == 0) state_->changed.notify_all();
    }
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    set_broken(send_broken_, error);
    const std::lock_guard lock(state_->mutex);
    sending_.clear();  // lets go of the tensors; unsent_ keeps telling that they have not left
  }
}

void Link::start_receiving() {
  if (!receiver_.joinable()) receiver_ = std::thread([this] { receive_all(); });
}

std::shared_ptr<Slot> Link::post(const Label& label) {
  auto slot = std::make_shared<Slot>();
  slot->label = label;
  {
    const std::lock_guard lock(state_->mutex);
    posted_.push_back(slot);
  }
  if (!receiver_.joinable())
    start_expecting();
  else
    slot_posted_.notify_one();  // not under the lock, which the other thread would run into
  return slot;
}

void Link::drain() {
  start_expecting();
  {
    const std::lock_guard lock(state_->mutex);
    draining_ = true;
    slot_posted_.notify_one();
  }
  start_receiving();
}

std::shared_ptr<Slot> Link::next_slot() {
  std::unique_lock lock(state_->mutex);
  slot_posted_.wait(lock, [&] { return stopping_ || draining_ || !posted_.empty(); });
  if (stopping_) throw Ending();
  if (posted_.empty()) return std::make_shared<Slot>();
  auto slot = std::move(posted_.front());
  posted_.pop_front();
  return slot;
}

void Link::start_expecting() {
  if (std::exchange(expecting_, true)) return;
  try {
    for (int i = 0; i < kExpected; ++i) expect_first(torch::empty({kFirstPart}, torch::kUInt8));
  } catch (const std::exception& error) {
    set_broken(receive_broken_, error);
  }
}

void Link::expect_first(torch::Tensor bytes) {
  clear_first(bytes);
  GroupWork work = start(false, bytes, kFirstTag);
  expected_.push_back({std::move(bytes), std::move(work)});
}

void Link::expect_again(torch::Tensor bytes) {
  taken_.push_back(std::move(bytes));
  if (taken_.size() < kTaken) return;
  for (torch::Tensor& each : taken_) expect_first(std::move(each));
  taken_.clear();
}

Received Link::receive_rest(const Opened& opened, const torch::Tensor& first) {
  torch::Tensor descriptions;
  if (opened.descriptions_apart) {
    descriptions = torch::empty({opened.descriptions}, torch::kUInt8);
    finish_receive(start(false, descriptions, kRestTag));
  }
  const bool device_to_device = groups_.to_higher != nullptr;
  Received received = receive_buffers(opened, first, descriptions,
                                      device_to_device ? device_ : torch::Device(torch::kCPU));
  if (opened.values_inside) return received;
  std::vector<GroupWork> works;
  for (const torch::Tensor& tensor : received.tensors)
    if (tensor.defined() && tensor.numel() > 0) works.push_back(start(false, tensor, kRestTag));
  for (const GroupWork& work : works) finish_receive(work);
  return received;
}

bool Link::take_next() {
  if (expected_.empty()) return false;     // the link is broken
  finish_receive(expected_.front().work);  // still there if this wait is ended
  const torch::Tensor first = std::move(expected_.front().bytes);
  expected_.pop_front();
  const Opened opened = open_first(first);
  assert(opened.sequence == received_);
  ++received_;
  if (opened.end) {
    const std::lock_guard lock(state_->mutex);
    ended_ = true;
    receive_broken_ = "the peer has ended";
    state_->changed.notify_all();
    return false;
  }
  const std::shared_ptr<Slot> slot = next_slot();
  Received received;
  try {
    received = receive_rest(opened, first);
  } catch (const Ending& ending) {
    set_broken(receive_broken_, Error("the wait for it ended in the middle of a message"));
    throw;
  }
  large_ = large_ || !opened.values_inside;
  expect_again(first);
  for (std::size_t i = 0; i < received.tensors.size(); ++i) {
    torch::Tensor& tensor = received.tensors[i];
    if (!tensor.defined()) continue;
    if (received.on_device[i]) tensor = tensor.to(device_);
    tensor.set_requires_grad(received.requires_grad[i]);
  }
  const std::lock_guard lock(state_->mutex);
  slot->message = {std::move(received.tensors), opened.sent, shared_clock(*state_)};
  if (slot->label != opened.label) slot->mismatch = to_string(opened.label);
  slot->done = true;
  return true;
}

void Link::receive_all() {
  const torch::NoGradGuard no_grad;
  try {
    while (take_next()) state_->changed.notify_all();
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    set_broken(receive_broken_, error);
  }
}

void Link::take_until_done(const Slot& slot) {
  const torch::NoGradGuard no_grad;
  try {
    while (!slot.done) {
      if (!expected_.empty()) spin(expected_.front().bytes);
      if (!take_next()) break;
    }
  } catch (const Ending&) {
  } catch (const std::exception& error) {
    set_broken(receive_broken_, error);
  }
  if (large_) start_receiving();
}

}  // namespace headrace
