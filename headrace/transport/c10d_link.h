// The messages between this rank and one peer on one channel, both ways, over a c10d back end.
//
// A message goes out in the caller's thread; the sending thread only waits until it has left and
// then lets go of its tensors: of large ones at once, of small ones many at a time.
//
// A few first parts are always expected, so that a small message is here before it is asked for.
// As long as all messages are small the caller takes them in where it waits for them, as waking
// another thread would cost more than the message. From the first large one on a receiving thread
// does, while the rank computes: first parts as they come, the rest once its receive is posted.
//
// Back end operations have no limit of their own here, as Gloo closes all connections of a group
// when one runs out; the waits of the rank's own thread have one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "headrace/transport/c10d_state.h"
#include "headrace/transport/c10d_wire.h"
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

// A posted receive, filled by whoever takes its message in. Guarded by the state's mutex.
struct Slot {
  Label label;
  bool done = false;
  Message message;
  std::string mismatch;  // what the peer sent instead, where that is the case
};

class Link {
 public:
  // Tensors that left a device arrive on `device`. `groups` may be empty.
  Link(std::shared_ptr<RunState> state,
       GroupBackend backend,
       DeviceGroups groups,
       int peer,
       int channel,
       torch::Device device);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link();  // ends all operations at once

  void send(const Label& label, const Tensors& tensors);
  std::shared_ptr<Slot> post(const Label& label);
  // Tells the peer that nothing more will come.
  void end();
  bool has_sent() const { return sequence_ > 0; }
  bool used() const { return has_sent() || expecting_; }
  int channel() const { return channel_; }
  // Takes in and drops what comes from now on, to notice the peer's end.
  void drain();
  // The caller is to take in what it waits for.
  bool direct() const { return expecting_ && !receiver_.joinable(); }
  // Does so, until `slot` is done, the link is broken or interrupt() is called by another thread.
  void take_until_done(const Slot& slot);
  void interrupt();
  // From now on the receiving thread takes in what is expected.
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
  void send(const Packed& packed);

  struct Sending {
    Tensors tensors;
    GroupWork work;
  };
  struct Expected {
    torch::Tensor bytes;
    GroupWork work;
  };

  void start_expecting();
  void receive_all();
  // Takes in the next message; false when there is none any more.
  bool take_next();
  Received receive_rest(const Opened& opened, const torch::Tensor& first);
  std::shared_ptr<Slot> next_slot();
  void expect_first(torch::Tensor bytes);
  void expect_again(torch::Tensor bytes);
  void reap_all();
  GroupWork start(bool sending, torch::Tensor tensor, int tag);
  void finish(const GroupWork& work);
  void finish_receive(const GroupWork& work);
  void set_broken(std::optional<std::string>& which, const std::exception& error);

  const std::shared_ptr<RunState> state_;
  const GroupBackend backend_;
  const DeviceGroups groups_;
  const int peer_;
  const int channel_;
  const torch::Device device_;

  std::uint64_t sequence_ = 0;  // the caller's thread
  bool expecting_ = false;      // the caller's thread

  // The receiving thread's, or the caller's as long as there is none.
  std::deque<Expected> expected_;
  std::vector<torch::Tensor> taken_;  // buffers to be expected into again
  std::uint64_t received_ = 0;
  bool large_ = false;  // one has come that does not fit in its first part

  // Guarded by the state's mutex.
  std::deque<std::shared_ptr<Slot>> posted_;
  std::deque<Sending> sending_;
  std::size_t unsent_ = 0;
  bool reaping_ = false;
  std::optional<std::string> send_broken_;
  std::optional<std::string> receive_broken_;
  bool ended_ = false;
  bool draining_ = false;
  bool stopping_ = false;
  std::condition_variable slot_posted_;
  std::condition_variable send_started_;

  std::mutex works_mutex_;
  std::set<GroupWork> works_;  // those under way, to be ended by the destructor
  GroupWork awaited_;          // the receive that is being waited for
  bool ending_ = false;

  std::thread receiver_;
  std::thread reaper_;
};

}  // namespace headrace
