#include "headrace/transport/local.h"

#include <cassert>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "headrace/transport/dense.h"
#include "headrace/transport/wait_chain.h"

namespace headrace {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_now() {
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

struct Sent {
  Label label;
  Message message;
};

// A way from one rank to another. The n-th message belongs to the n-th posted receive.
struct Channel {
  std::uint64_t sent = 0;
  std::uint64_t posted = 0;
  std::map<std::uint64_t, Sent> messages;
  std::set<std::uint64_t> unwanted;  // receives given up before their message came
};

struct RankState {
  std::condition_variable changed;
  std::optional<Waiting> waiting;
  std::optional<std::string> aborted;
  double limit = 600;
  bool ended = false;
};

// What the ranks share. One lock for all: it is held for moments only.
struct World {
  World(int ranks, const LocalOptions& settings)
      : size(ranks),
        options(settings),
        states(static_cast<std::size_t>(ranks)),
        channels(static_cast<std::size_t>(ranks * ranks) * kChannels),
        hosts(static_cast<std::size_t>(ranks), "localhost") {}

  RankState& state(int rank) { return states[static_cast<std::size_t>(rank)]; }
  Channel& channel(int from, int to, Purpose purpose) {
    return channels[static_cast<std::size_t>(from * size + to) * kChannels + channel_of(purpose)];
  }
  void wake_all() {
    for (RankState& state : states) state.changed.notify_all();
  }
  void check_alive(int rank) {
    const RankState& own = state(rank);
    check(!own.aborted, own.aborted.value_or(""));
    if (failure) throw PeerError(failure->rank, failure->what);
  }
  // Blocks `rank` until done(), at most its limit.
  template <class Done>
  void wait(std::unique_lock<std::mutex>& lock, int rank, const Waiting& waiting, const Done& done);

  const int size;
  const LocalOptions options;
  std::mutex mutex;
  std::vector<RankState> states;
  std::vector<Channel> channels;
  const std::vector<std::string> hosts;
  std::optional<Failure> failure;
  int reporter = -1;
};

template <class Done>
void World::wait(std::unique_lock<std::mutex>& lock,
                 int rank,
                 const Waiting& waiting,
                 const Done& done) {
  RankState& own = state(rank);
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(own.limit));
  own.waiting = waiting;
  bool in_time = true;
  while (!done() && in_time && !own.aborted && !failure && !state(waiting.peer).ended)
    in_time = own.changed.wait_until(lock, deadline) == std::cv_status::no_timeout;
  std::vector<std::optional<Waiting>> waits;
  for (const RankState& each : states) waits.push_back(each.waiting);
  if (done()) {
    own.waiting.reset();
    return;
  }
  // It stays known what this rank waited for: others whose wait runs out now will ask.
  check_alive(rank);
  if (state(waiting.peer).ended)
    throw PeerError(waiting.peer, cat("rank ", waiting.peer, " has ended, and rank ", rank,
                                      " still waited ", to_string(waiting)));
  const AtFault at_fault = find_at_fault(rank, own.limit, waits, hosts);
  throw PeerError(at_fault.rank, at_fault.what);
}

class LocalArrival : public Arrival {
 public:
  LocalArrival(
      std::shared_ptr<World> world, int from, int to, std::uint64_t number, const Label& label)
      : world_(std::move(world)), from_(from), to_(to), number_(number), label_(label) {}
  ~LocalArrival() override;
  Message wait() override;

 private:
  std::shared_ptr<World> world_;
  const int from_, to_;
  const std::uint64_t number_;
  const Label label_;
  bool taken_ = false;
};

LocalArrival::~LocalArrival() {
  if (taken_) return;
  const std::lock_guard lock(world_->mutex);
  Channel& channel = world_->channel(from_, to_, label_.purpose);
  if (channel.messages.erase(number_) == 0) channel.unwanted.insert(number_);
}

Message LocalArrival::wait() {
  std::unique_lock lock(world_->mutex);
  check(!taken_, "the message was already taken: ", to_string(label_));
  Channel& channel = world_->channel(from_, to_, label_.purpose);
  world_->check_alive(to_);
  world_->wait(lock, to_, {from_, false, label_},
               [&] { return channel.messages.contains(number_); });
  Sent sent = std::move(channel.messages.extract(number_).mapped());
  taken_ = true;
  lock.unlock();
  take_over(sent.message.tensors, sent.message.ready);
  check(sent.label == label_, "rank ", to_, " expected ", to_string(label_), " from rank ", from_,
        ", which sent ", to_string(sent.label));
  if (world_->options.delay > 0) {
    const double rest = sent.message.arrived - seconds_now();
    if (rest > 0) std::this_thread::sleep_for(std::chrono::duration<double>(rest));
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& tensor : sent.message.tensors)
      if (tensor.defined()) tensor = tensor.clone().set_requires_grad(tensor.requires_grad());
  }
  return std::move(sent.message);
}

class Local : public Transport {
 public:
  Local(std::shared_ptr<World> world, int rank) : world_(std::move(world)), rank_(rank) {}
  ~Local() override;

  int rank() const override { return rank_; }
  int size() const override { return world_->size; }
  std::string host(int rank) const override {
    return world_->hosts.at(static_cast<std::size_t>(rank));
  }
  void send(int to, const Label& label, const Tensors& tensors) override;
  std::unique_ptr<Arrival> receive(int from, const Label& label) override;
  void flush() override;
  void set_limit(double seconds) override;
  double limit() const override;
  torch::Device device() const override { return world_->options.device; }
  double clock() const override { return seconds_now(); }
  double clock_error() const override { return 0; }
  Failure fail(int at_fault, const std::string& what) override;
  void abort(const std::string& why) override;

 private:
  void require_running() override;

  const std::shared_ptr<World> world_;
  const int rank_;
  double last_arrival_ = 0;
};

Local::~Local() {
  const std::lock_guard lock(world_->mutex);
  world_->state(rank_).ended = true;
  world_->wake_all();
}

void Local::send(int to, const Label& label, const Tensors& tensors) {
  assert(to >= 0 && to < size() && to != rank_);
  Sent sent{label, {dense(tensors, label), seconds_now(), 0}};
  sent.message.ready = marks_of(sent.message.tensors);
  last_arrival_ = sent.message.arrived = sent.message.sent + world_->options.delay;
  std::unique_lock lock(world_->mutex);
  world_->check_alive(rank_);
  Channel& channel = world_->channel(rank_, to, label.purpose);
  const std::uint64_t number = channel.sent++;
  if (channel.unwanted.erase(number) == 0) channel.messages.emplace(number, std::move(sent));
  world_->state(to).changed.notify_all();
  if (world_->options.capacity_zero)
    world_->wait(lock, rank_, {to, true, label}, [&] { return channel.posted > number; });
}

std::unique_ptr<Arrival> Local::receive(int from, const Label& label) {
  assert(from >= 0 && from < size() && from != rank_);
  const std::lock_guard lock(world_->mutex);
  world_->check_alive(rank_);
  Channel& channel = world_->channel(from, rank_, label.purpose);
  if (world_->options.capacity_zero) world_->state(from).changed.notify_all();
  return std::make_unique<LocalArrival>(world_, from, rank_, channel.posted++, label);
}

void Local::set_limit(double seconds) {
  const std::lock_guard lock(world_->mutex);
  world_->state(rank_).limit = seconds;
}

double Local::limit() const {
  const std::lock_guard lock(world_->mutex);
  return world_->state(rank_).limit;
}

void Local::require_running() {
  const std::lock_guard lock(world_->mutex);
  world_->check_alive(rank_);
}

void Local::flush() {
  const double rest = last_arrival_ - seconds_now();
  if (rest > 0) std::this_thread::sleep_for(std::chrono::duration<double>(rest));
}

Failure Local::fail(int at_fault, const std::string& what) {
  const std::lock_guard lock(world_->mutex);
  if (!world_->failure) {
    world_->failure = Failure{at_fault, what};
    world_->reporter = rank_;
    world_->wake_all();
  }
  Failure first = *world_->failure;
  first.reported_here = world_->reporter == rank_;
  return first;
}

void Local::abort(const std::string& why) {
  const std::lock_guard lock(world_->mutex);
  RankState& own = world_->state(rank_);
  if (!own.aborted) own.aborted = why;
  own.changed.notify_all();
}

}  // namespace

std::vector<std::unique_ptr<Transport>> local_transports(int ranks, const LocalOptions& options) {
  check(ranks >= 1, "a run has at least one rank, not ", ranks);
  const auto world = std::make_shared<World>(ranks, options);
  std::vector<std::unique_ptr<Transport>> transports;
  for (int rank = 0; rank < ranks; ++rank)
    transports.push_back(std::make_unique<Local>(world, rank));
  return transports;
}

void run_ranks(int ranks,
               const std::function<void(Transport&)>& work,
               const LocalOptions& options) {
  std::vector<std::unique_ptr<Transport>> transports = local_transports(ranks, options);
  run_ranks(
      ranks, [&](int rank) { return std::move(transports[static_cast<std::size_t>(rank)]); }, work);
}

}  // namespace headrace
