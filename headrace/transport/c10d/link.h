// The messages between this rank and one peer on one channel, both ways, over a c10d back end and,
// where the peer is on this host, memory that both have mapped (shared_ring.h).
//
// From another host a receiving thread takes messages in while the rank computes: a few first parts
// are always expected, the rest is once its receive is posted. From a ring the caller takes
// small messages itself where it waits for them; the receiving thread does from the first large
// one on. What closes the connection, or that the peer has ended, is then told by the back end
// alone, to which a thread listens. How messages go out: outbox.h.
//
// Tensors that left a device come to this rank's, on a stream beside its computation; what a message says to be
// there may still be on its way to where the receiver's thread uses it (Message::ready).
//
// Back end operations have no limit of their own here; the waits of the rank's own thread have one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "headrace/transport/c10d/operations.h"
#include "headrace/transport/c10d/outbox.h"
#include "headrace/transport/c10d/shared_ring.h"
#include "headrace/transport/c10d/state.h"
#include "headrace/transport/c10d/wire.h"
#include "headrace/transport/transport.h"

namespace headrace {

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
  // Tensors that left a device arrive on `device`. `direct` and `rings` may be empty.
  Link(std::shared_ptr<RunState> state,
       GroupBackend backend,
       DirectGroup direct,
       std::optional<Rings> rings,
       int peer,
       int channel,
       torch::Device device);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link();  // ends all operations at once

  void send(const Label& label, const Tensors& tensors);
  bool is_straight() const { return operations_.is_straight(); }
  std::shared_ptr<Posted> post(const Label& label);
  // Tells the peer that nothing more will come.
  void end() { outbox_.end(); }
  bool has_sent() const { return outbox_.has_sent(); }
  bool used() const { return has_sent() || listening_; }
  int channel() const { return channel_; }
  // Of the last receive; of the caller's thread.
  const std::optional<Label>& last_posted() const { return last_posted_; }
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
  void reap() { outbox_.reap(); }
  bool all_sent() const { return outbox_.all_sent(); }
  bool has_posted() const { return !posted_.empty(); }
  // Why no message can come any more, or go.
  const std::optional<std::string>& broken(bool to_send = false) const {
    return to_send ? outbox_.broken() : receive_broken_;
  }
  // None can come because the peer has said that it has ended.
  bool ended() const { return ended_; }
  // The peer has said so, though what it sent before may still be in the ring.
  bool end_told() const { return ended_ || end_told_; }

 private:
  struct Expected {
    torch::Tensor bytes;
    GroupWork work;
  };

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

  void set_broken(const std::string& why);
  void set_ended();

  const std::shared_ptr<RunState> state_;
  std::optional<Rings> rings_;
  const int channel_;
  const torch::Device device_;
  Operations operations_;
  Outbox outbox_;

  // The caller's thread's.
  bool listening_ = false;
  std::optional<Label> last_posted_;

  // The receiving thread's, or the caller's as long as there is none; `expected_`: the end watch's,
  // where there is one.
  std::deque<Expected> expected_;
  torch::Tensor held_;  // a large message's first part, with which the receiving thread is to start
  std::uint64_t received_ = 0;

  // Guarded by the state's mutex.
  std::deque<std::shared_ptr<Posted>> posted_;
  std::optional<std::string> receive_broken_;
  bool ended_ = false;
  std::optional<std::string> connection_over_;  // why nothing more will be put into the ring
  bool end_told_ = false;                       // because the peer has ended
  bool draining_ = false;
  bool stopping_ = false;
  std::condition_variable receive_posted_;

  std::thread receiver_;
  std::thread end_watch_;
};

}  // namespace headrace
