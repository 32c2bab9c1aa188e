// The messages between this rank and one peer on one channel, both ways, over a c10d back end and,
// where the peer is on this host, memory that both have mapped (shared_ring.h).
//
// A message goes out in the caller's thread; the sending thread only waits until it has left and
// then lets go of its tensors: of large ones at once, of small ones many at a time.
//
// From another host a receiving thread takes messages in while the rank computes: a few first parts
// are always expected, the rest is once its receive is posted. From a ring the caller takes
// small messages itself where it waits for them; the receiving thread does from the first large
// one on. What closes the connection, or that the peer has ended, is then told by the back end
// alone, to which a thread listens.
//
// Back end operations have no limit of their own here, as Gloo closes all connections of a group
// when one runs out; the waits of the rank's own thread have one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "headrace/transport/c10d/shared_ring.h"
#include "headrace/transport/c10d/state.h"
#include "headrace/transport/c10d/wire.h"
#include "headrace/transport/transport.h"

namespace headrace {

using GroupBackend = c10::intrusive_ptr<c10d::Backend>;
using GroupWork = c10::intrusive_ptr<c10d::Work>;

// Moves the values of tensors that are on a device straight between devices (NCCL). One each for
// the two directions of a pair of ranks, so that neither waits for the other.
struct DeviceGroups {
  GroupBackend to_higher;  // from the lower rank to the higher
  GroupBackend to_lower;
};

// The shared rings of a pair of ranks on one host; the two ranks agree to have them.
struct Rings {
  Ring in, out;
};

// A posted receive, filled by whoever takes its message in. Guarded by the state's mutex.
struct Posted {
  Label label;
  bool done = false;
  Message message;
  std::string mismatch;  // what the peer sent instead, where that is the case
};

class Link {
 public:
  // Tensors that left a device arrive on `device`. `groups` and `rings` may be empty.
  Link(std::shared_ptr<RunState> state,
       GroupBackend backend,
       DeviceGroups groups,
       std::optional<Rings> rings,
       int peer,
       int channel,
       torch::Device device);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link();  // ends all operations at once

  void send(const Label& label, const Tensors& tensors);
  std::shared_ptr<Posted> post(const Label& label);
  // Tells the peer that nothing more will come.
  void end();
  bool has_sent() const { return sequence_ > 0; }
  bool used() const { return has_sent() || listening_; }
  int channel() const { return channel_; }
  // Takes in and drops what comes from now on, to notice the peer's end.
  void drain();
  // The caller is to take in what it waits for.
  bool direct() const { return rings_ && !receiver_.joinable(); }
  // Does so, until `posted` is done, the receiving thread is to go on, the link is broken or `stop`,
  // which is asked many times a second, says so.
  void take_until_done(const Posted& posted, const std::function<bool()>& stop);
  // From now on the receiving thread takes in what comes.
  void start_receiving();

  // The following want the state's mutex held.
  // Has the sending thread let go of all that has left, down to the smallest.
  void reap();
  bool all_sent() const { return unsent_ == 0; }
  bool has_posted() const { return !posted_.empty(); }
  // Why no message can come any more, or go.
  const std::optional<std::string>& broken(bool to_send = false) const {
    return to_send ? send_broken_ : receive_broken_;
  }
  // None can come because the peer has said that it has ended.
  bool ended() const { return ended_; }

 private:
  // What is under way, until it has left: a back end's operation, or, where there is none, a
  // message that the ring had no room for.
  struct Sending {
    torch::Tensor tensor;
    GroupWork work;
  };
  struct Expected {
    torch::Tensor bytes;
    GroupWork work;
  };

  void send_first(const torch::Tensor& first);
  void send_over_backend(const torch::Tensor& tensor, int tag);
  void reap_all();
  bool put_when_there_is_room(const torch::Tensor& first);

  // Expects first parts from the back end: all, or, beside a ring, the peer's end.
  void listen();
  void expect_first(torch::Tensor bytes);
  // The next first part; throws Ending where `stop` says so. Undefined: none will come.
  torch::Tensor take_first(const std::function<bool()>& stop);
  torch::Tensor take_from_backend();
  // Waits for the end of the peer or of the connection.
  void watch_end();
  void receive_all();
  void deliver(const torch::Tensor& first, const Opened& opened);
  Received receive_rest(const Opened& opened, const torch::Tensor& first);
  std::shared_ptr<Posted> next_posted();

  GroupWork start(bool sending, torch::Tensor tensor, int tag);
  void finish(const GroupWork& work);
  void set_broken(std::optional<std::string>& which, const std::string& why);
  void set_ended();

  const std::shared_ptr<RunState> state_;
  const GroupBackend backend_;
  const DeviceGroups groups_;
  std::optional<Rings> rings_;
  const int peer_;
  const int channel_;
  const torch::Device device_;

  std::uint64_t sequence_ = 0;  // the caller's thread
  bool listening_ = false;      // the caller's thread

  // The receiving thread's, or the caller's as long as there is none; `expected_`: the end watch's,
  // where there is one.
  std::deque<Expected> expected_;
  torch::Tensor held_;  // a large message's first part, with which the receiving thread is to start
  std::uint64_t received_ = 0;

  // Guarded by the state's mutex.
  std::deque<std::shared_ptr<Posted>> posted_;
  std::deque<Sending> sending_;
  std::size_t unsent_ = 0;
  bool reaping_ = false;
  std::optional<std::string> send_broken_;
  std::optional<std::string> receive_broken_;
  bool ended_ = false;
  std::size_t unput_ = 0;                       // messages that wait for room in the ring
  std::optional<std::string> connection_over_;  // why nothing more will be put into the ring
  bool end_told_ = false;                       // because the peer has ended
  bool draining_ = false;
  bool stopping_ = false;
  std::condition_variable receive_posted_;
  std::condition_variable send_started_;

  std::mutex works_mutex_;
  std::set<GroupWork> works_;  // those under way, to be ended by the destructor
  bool ending_ = false;

  std::thread receiver_;
  std::thread reaper_;
  std::thread end_watch_;
};

}  // namespace headrace
