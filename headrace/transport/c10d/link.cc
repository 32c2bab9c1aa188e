#include "headrace/transport/c10d/link.h"

#include <cassert>
#include <chrono>
#include <exception>
#include <utility>

#include "headrace/tensor/streams.h"

namespace headrace {

namespace {

// First parts of this many messages are taken in before their receives are posted.
constexpr int kExpected = 8;
constexpr auto kRingPause = std::chrono::milliseconds(20);  // between looks whether to go on
constexpr auto kNone = std::chrono::milliseconds(0);

}  // namespace

Link::Link(std::shared_ptr<RunState> state,
           GroupBackend backend,
           DirectGroup direct,
           std::optional<Rings> rings,
           int peer,
           int channel,
           torch::Device device)
    : state_(std::move(state)),
      rings_(rings),
      channel_(channel),
      device_(device),
      operations_(state_->rank, peer, channel, std::move(backend), std::move(direct)),
      outbox_(state_, operations_, rings ? std::optional<Ring>(rings->out) : std::nullopt, device) {
}

Link::~Link() {
  {
    const std::lock_guard lock(state_->mutex);
    stopping_ = true;
    receive_posted_.notify_all();
    outbox_.stop();
  }
  operations_.end();
  if (receiver_.joinable()) receiver_.join();
  if (end_watch_.joinable()) end_watch_.join();
}

void Link::set_broken(const std::string& why) {
  const std::lock_guard lock(state_->mutex);
  if (!receive_broken_) receive_broken_ = why;
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
  outbox_.send(label, tensors);
}

void Link::start_receiving() {
  if (!receiver_.joinable()) receiver_ = std::thread([this] { receive_all(); });
}

std::shared_ptr<Posted> Link::post(const Label& label) {
  auto posted = std::make_shared<Posted>();
  posted->label = label;
  last_posted_ = label;
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
  } catch (const ConnectionError& error) {
    set_broken(error.what());
  }
  if (rings_) end_watch_ = std::thread([this] { watch_end(); });
}

void Link::expect_first(torch::Tensor bytes) {
  GroupWork work = operations_.start_receive(bytes, kFirstTag);
  expected_.push_back({std::move(bytes), std::move(work)});
}

torch::Tensor Link::take_from_backend() {
  if (expected_.empty()) return {};  // the link is broken
  const Expected oldest = std::move(expected_.front());
  expected_.pop_front();
  operations_.finish(oldest.work);
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
  } catch (const ConnectionError& error) {
    why = error.what();
  } catch (const std::exception&) {
    return state_->fail(std::current_exception());
  }
  {
    const std::lock_guard lock(state_->mutex);
    if (!connection_over_) connection_over_ = why;
    outbox_.set_broken(why);
  }
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
    if (over) throw ConnectionError(*over);
    if (stop()) throw Ending();
  }
}

Received Link::receive_rest(const Opened& opened, const torch::Tensor& first) {
  torch::Tensor descriptions;
  if (opened.descriptions_apart) {
    descriptions = torch::empty({opened.descriptions}, torch::kUInt8);
    operations_.finish(operations_.start_receive(descriptions, kRestTag));
  }
  Received received =
      receive_buffers(opened, first, descriptions, device_, operations_.is_straight());
  if (opened.values_inside) return received;
  std::vector<std::pair<GroupWork, bool>> works;
  for (const torch::Tensor& tensor : received.tensors)
    if (tensor.defined() && tensor.numel() > 0)
      works.emplace_back(operations_.start_receive(tensor, kRestTag), tensor.is_cpu());
  for (const auto& [work, to_host] : works)
    to_host ? operations_.finish(work) : Operations::finish_on_device(work);
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
    set_broken("the wait for it ended in the middle of a message");
    throw;
  }
  for (std::size_t i = 0; i < received.tensors.size(); ++i) {
    torch::Tensor& tensor = received.tensors[i];
    if (!tensor.defined()) continue;
    if (received.on_device[i]) tensor = to_device(tensor, device_);
    tensor.set_requires_grad(received.requires_grad[i]);
  }
  Marks ready = marks_of(received.tensors);
  const std::lock_guard lock(state_->mutex);
  posted->message = {std::move(received.tensors), opened.sent, shared_clock(*state_),
                     std::move(ready)};
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
    const OwnStream beside(device_);
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
  } catch (const ConnectionError& error) {
    set_broken(error.what());
  } catch (const std::exception&) {
    state_->fail(std::current_exception());
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
  } catch (const ConnectionError& error) {
    set_broken(error.what());
  } catch (const std::exception&) {
    state_->fail(std::current_exception());
  }
}

}  // namespace headrace
