#include "headrace/transport/c10d/c10d.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <limits>

#include "headrace/transport/c10d/explain.h"
#include "headrace/transport/c10d/start.h"

namespace headrace {

namespace {

constexpr double kLeaveFailedLimit = 2;  // seconds for the others to read why the run has failed
constexpr int kClockRounds = 8;

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

class C10d : public Transport {
 public:
  C10d(const Rendezvous& place, Started started);
  ~C10d() override;

  int rank() const override { return state_->rank; }
  int size() const override { return state_->size; }
  std::string host(int rank) const override {
    return state_->hosts.at(static_cast<std::size_t>(rank));
  }
  void send(int to, const Label& label, const Tensors& tensors) override;
  std::unique_ptr<Arrival> receive(int from, const Label& label) override;
  void flush() override;
  void set_limit(double seconds) override;
  double limit() const override;
  torch::Device device() const override { return device_; }
  bool is_straight() const override;
  double clock() const override { return shared_clock(*state_); }
  double clock_error() const override { return clock_error_; }
  int restarts() const override { return restarts_; }
  Failure fail(int at_fault, const std::string& what) override;
  void abort(const std::string& why) override;

  Message wait(int from, Posted& posted);
  void agree_on_clock(const std::vector<Introduction>& introductions);

 private:
  Link& link(int peer, Purpose purpose) { return link(peer, channel_of(purpose)); }
  Link& link(int peer, std::size_t channel) {
    return *links_[static_cast<std::size_t>(peer) * kChannels + channel];
  }
  // Blocks until done(), at most until `deadline`; throws who is at fault when that cannot come.
  template <class Done>
  void wait(Lock& lock, const Waiting& waiting, Clock::time_point deadline, const Done& done);
  // Of a wait that starts now. Wants the state's mutex held.
  Clock::time_point deadline() const {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double>(state_->limit));
  }
  void part(bool clean);
  void require_running() override;

  const std::shared_ptr<RunState> state_ = std::make_shared<RunState>();
  const torch::Device device_;
  const bool serves_;  // the run's store
  const int restarts_;
  GroupBackend group_;
  const std::unique_ptr<SharedRings> rings_;
  std::vector<std::unique_ptr<Link>> links_;  // [peer][channel]; none to itself
  std::unique_ptr<Failures> failures_;
  std::array<Label, kChannels> last_sent_ = {Label{Purpose::AllGather},
                                             Label{Purpose::SharedGradients}};
  double clock_error_ = 0;
};

class C10dArrival : public Arrival {
 public:
  C10dArrival(C10d& transport, int from, std::shared_ptr<Posted> posted)
      : transport_(transport), from_(from), slot_(std::move(posted)) {}

  Message wait() override {
    check(slot_ != nullptr, "a message may be taken once");
    const std::shared_ptr<Posted> posted = std::move(slot_);
    return transport_.wait(from_, *posted);
  }

 private:
  C10d& transport_;
  const int from_;
  std::shared_ptr<Posted> slot_;
};

C10d::C10d(const Rendezvous& place, Started started)
    : device_(started.device),
      serves_(place.rank == 0 && !place.store_is_served),
      restarts_(started.restarts),
      group_(std::move(started.group)),
      rings_(std::move(started.rings)) {
  state_->rank = place.rank;
  state_->size = place.size;
  state_->store_is_served = place.store_is_served;
  for (const Introduction& introduction : started.introductions)
    state_->hosts.push_back(introduction.host);
  for (int peer = 0; peer < place.size; ++peer)
    for (std::size_t channel = 0; channel < kChannels; ++channel) {
      auto& link = links_.emplace_back();
      if (peer == place.rank) continue;
      std::optional<Rings> rings;
      if (started.shares_memory[static_cast<std::size_t>(peer)])
        rings = {rings_->from(peer, channel), rings_->to(peer, channel)};
      link = std::make_unique<Link>(state_, group_,
                                    started.direct[static_cast<std::size_t>(peer)][channel], rings,
                                    peer, static_cast<int>(channel), device_);
    }
  failures_ = std::make_unique<Failures>(state_, std::move(started.store_thread));
}

template <class Done>
void C10d::wait(Lock& lock, const Waiting& waiting, Clock::time_point deadline, const Done& done) {
  RunState& state = *state_;
  if (done()) return;
  Link& peer = link(waiting.peer, waiting.label.purpose);
  state.waiting = waiting;
  const bool in_time = state.changed.wait_until(
      lock, deadline, [&] { return done() || peer.broken(waiting.to_send) || state.is_over(); });
  if (done()) {
    state.waiting.reset();
    return;
  }
  // It stays known what this rank waited for: others whose wait runs out now will ask.
  const auto broken = peer.broken(waiting.to_send);
  const bool ended = peer.ended() && !waiting.to_send;
  if (!broken) check_running(state);
  const double limit = state.limit;
  lock.unlock();
  if (broken && in_time) throw_closed(state, *failures_, waiting, ended ? std::nullopt : broken);
  throw_expired(state, *failures_, waiting, limit);
}

Message C10d::wait(int from, Posted& posted) {
  Lock lock(state_->mutex);
  const Waiting waiting = {from, false, posted.label};
  const Clock::time_point deadline = this->deadline();
  Link& peer = link(from, posted.label.purpose);
  if (!posted.done) check_running(*state_);
  if (!posted.done && peer.direct()) {
    state_->waiting = waiting;
    lock.unlock();
    peer.take_until_done(posted, [&] {
      const Lock again(state_->mutex);
      return Clock::now() >= deadline || state_->is_over();
    });
    lock.lock();
    if (posted.done) state_->waiting.reset();
  }
  wait(lock, waiting, deadline, [&] { return posted.done; });
  check(posted.mismatch.empty(), "rank ", rank(), " expected ", to_string(posted.label),
        " from rank ", from, ", which sent ", posted.mismatch);
  lock.unlock();
  Message message = std::move(posted.message);
  take_over(message.tensors, message.ready);
  return message;
}

void C10d::send(int to, const Label& label, const Tensors& tensors) {
  assert(to >= 0 && to < size() && to != rank());
  {
    const Lock lock(state_->mutex);
    check_running(*state_);
  }
  last_sent_[channel_of(label.purpose)] = label;
  link(to, label.purpose).send(label, tensors);
  Lock lock(state_->mutex);
  if (link(to, label.purpose).broken(true))
    wait(lock, {to, true, label}, deadline(), [] { return false; });
}

std::unique_ptr<Arrival> C10d::receive(int from, const Label& label) {
  assert(from >= 0 && from < size() && from != rank());
  {
    const Lock lock(state_->mutex);
    check_running(*state_);
  }
  return std::make_unique<C10dArrival>(*this, from, link(from, label.purpose).post(label));
}

void C10d::flush() {
  Lock lock(state_->mutex);
  check_running(*state_);
  for (int peer = 0; peer < size(); ++peer) {
    for (std::size_t channel = 0; peer != rank() && channel < kChannels; ++channel) {
      Link& each = link(peer, channel);
      each.reap();
      // The peer may be about to do the same, with messages for this rank.
      if (!each.all_sent() && each.direct() && each.has_posted()) each.start_receiving();
      wait(lock, {peer, true, last_sent_[channel]}, deadline(), [&] { return each.all_sent(); });
    }
  }
}

void C10d::set_limit(double seconds) {
  const Lock lock(state_->mutex);
  state_->limit = seconds;
}

double C10d::limit() const {
  const Lock lock(state_->mutex);
  return state_->limit;
}

void C10d::require_running() {
  Lock lock(state_->mutex);
  check_running(*state_);
  for (int peer = 0; peer < size(); ++peer)
    for (std::size_t channel = 0; peer != rank() && channel < kChannels; ++channel) {
      const Link& each = link(peer, channel);
      const bool to_send = each.broken(true).has_value();
      if (each.end_told() || (!to_send && !each.broken())) continue;
      const Label& label = to_send ? last_sent_[channel] : *each.last_posted();
      wait(lock, {peer, to_send, label}, deadline(), [] { return false; });
    }
}

bool C10d::is_straight() const {
  return std::ranges::all_of(
      links_, [](const auto& each) { return each == nullptr || each->is_straight(); });
}

Failure C10d::fail(int at_fault, const std::string& what) {
  const std::optional<Failure> first = failures_->publish({at_fault, what});
  Lock lock(state_->mutex);
  if (first) return *first;
  // No way to agree any more. An error of this rank's own is told; of the store's end, which all
  // ranks see, the first of those that are left on each host tells: hosts may be cut off one another.
  int teller = state_->store_is_served ? 0 : 1;
  while (teller < rank() && host(teller) != host(rank())) ++teller;
  if (!state_->failure) state_->failure = {at_fault, what, at_fault == rank() || rank() == teller};
  return *state_->failure;
}

void C10d::abort(const std::string& why) {
  const Lock lock(state_->mutex);
  if (!state_->aborted) state_->aborted = why;
  state_->changed.notify_all();
}

// Rank 0 answers each rank on another host in turn; the quickest round trip tells the offset best.
void C10d::agree_on_clock(const std::vector<Introduction>& introductions) {
  const auto away = [&](int r) {
    return introductions[static_cast<std::size_t>(r)].boot != introductions[0].boot;
  };
  const auto exchange = [&](int peer, double value) {
    const auto arrival = receive(peer, {Purpose::Clock});
    send(peer, {Purpose::Clock}, {torch::tensor({value}, torch::kFloat64)});
    return arrival->wait().tensors.at(0).item<double>();
  };
  if (rank() == 0) {
    for (int peer = 1; peer < size(); ++peer)
      for (int round = 0; away(peer) && round < kClockRounds; ++round) {
        receive(peer, {Purpose::Clock})->wait();
        send(peer, {Purpose::Clock}, {torch::tensor({clock()}, torch::kFloat64)});
      }
    return;
  }
  double best = std::numeric_limits<double>::infinity();
  double offset = 0;
  for (int round = 0; away(rank()) && round < kClockRounds; ++round) {
    const double start = clock();
    const double theirs = exchange(0, start);
    const double end = clock();
    if (end - start >= best) continue;
    best = end - start;
    offset = theirs - (start + end) / 2;
  }
  if (!away(rank())) return;
  state_->clock_offset = offset;
  clock_error_ = best / 2;
}

// A rank that has sent must not close its connections before the peers have taken everything in: a
// peer that still writes to a closed connection loses what it has not yet read. And the store must
// outlive all. So each rank says that it has ended, and waits for those it has sent to, rank 0 for
// all, to say so too or to close. Between devices the receiver waits too: it must not close what the sender does not
// know yet to have arrived.
void C10d::part(bool clean) {
  std::vector<Link*> awaited;
  for (const auto& each : links_) {
    if (!each || (each->channel() > 0 && !each->used())) continue;
    const bool both_wait = !device_.is_cpu() && each->is_straight() && each->used();
    if (serves_ || (clean && (each->has_sent() || both_wait))) awaited.push_back(each.get());
    if (clean) each->end();
  }
  for (Link* each : awaited) each->drain();
  RunState& state = *state_;
  Lock lock(state.mutex);
  const auto all_ended = [&] {
    return std::all_of(awaited.begin(), awaited.end(), [](Link* each) { return each->broken(); });
  };
  const auto failed = [&] { return !clean || state.is_over(); };
  state.changed.wait_for(lock, std::chrono::duration<double>(failed() ? 0 : state.limit),
                         [&] { return all_ended() || failed(); });
  if (failed() && serves_)
    state.changed.wait_for(lock, std::chrono::duration<double>(kLeaveFailedLimit), all_ended);
}

C10d::~C10d() {
  bool clean = true;
  try {
    flush();  // throws at once where the run has failed
  } catch (const std::exception&) {
    clean = false;
    failures_->leave();
  }
  part(clean);
  failures_.reset();
  links_.clear();
}

}  // namespace

std::unique_ptr<Transport> c10d_transport(const Rendezvous& place,
                                          double start_limit,
                                          const DeviceUse& use) {
  Started started = start_c10d(place, start_limit, use);
  const std::vector<Introduction> introductions = started.introductions;
  auto transport = std::make_unique<C10d>(place, std::move(started));
  transport->set_limit(start_limit);
  transport->agree_on_clock(introductions);
  return transport;
}

}  // namespace headrace
