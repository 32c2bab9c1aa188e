// What this rank sends to one peer on one channel.
//
// A message goes out in the caller's thread; the sending thread only waits until it has left and then lets go
// of its tensors: of large ones at once, of small ones many at a time. The sending thread puts out, in turn, what
// could not leave at once: what the ring had no room for, and tensors of a device, on a stream beside the computation.
// Those go straight to the peer's, the first when NCCL has joined the two, for which the caller need not wait; or they
// come to the host first, the next message's while the one before leaves.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "headrace/tensor/streams.h"
#include "headrace/transport/c10d/operations.h"
#include "headrace/transport/c10d/shared_ring.h"
#include "headrace/transport/c10d/state.h"
#include "headrace/transport/c10d/wire.h"

namespace headrace {

constexpr int kFirstTag = 0;  // of first parts (wire.h)
constexpr int kRestTag = 1;   // of what follows them

class Outbox {
 public:
  // `ring` may be empty; `operations` must outlive this.
  Outbox(std::shared_ptr<RunState> state,
         Operations& operations,
         std::optional<Ring> ring,
         torch::Device device);
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  ~Outbox();  // stop() was called, and the operations are ended

  void send(const Label& label, const Tensors& tensors);
  // Tells the peer that nothing more will come.
  void end();
  bool has_sent() const { return sequence_ > 0; }

  // The following want the state's mutex held.
  void stop();
  // Has the sending thread let go of all that has left, down to the smallest.
  void reap();
  bool all_sent() const { return unsent_ == 0; }
  // Why nothing can leave any more.
  const std::optional<std::string>& broken() const { return broken_; }
  void set_broken(const std::string& why);

 private:
  struct Outgoing {
    Label label;
    std::uint64_t sequence = 0;
    double sent = 0;
    Tensors tensors;
    Mark computed;  // of tensors on a device
  };
  // What is under way, until it has left: a back end's operation, or, where there is none, a message that could
  // not leave at once.
  struct Sending {
    torch::Tensor tensor;
    GroupWork work;
    Outgoing message;
  };

  // A message that the sending thread has put out, until all of it has left.
  struct Leaving {
    Packed message;
    std::vector<GroupWork> of_host, of_device;
  };

  Packed packed(const Outgoing& message, const Tensors& values) const;
  void put_out(const Packed& message);
  void put_out_later(Outgoing message);
  void start(const torch::Tensor& tensor, int tag);

  // The sending thread's.
  void run();
  std::optional<Sending> next(bool others_leave);
  std::optional<Leaving> put_out_in_turn(const Outgoing& message);
  void let_go(std::deque<Leaving>& leaving, std::size_t kept);
  bool has_come(const Mark& mark);
  bool put_when_there_is_room(const torch::Tensor& first);
  void note_left(std::size_t count);

  const std::shared_ptr<RunState> state_;
  Operations& operations_;
  std::optional<Ring> ring_;
  const torch::Device device_;
  std::uint64_t sequence_ = 0;  // the caller's thread

  // Guarded by the state's mutex.
  std::deque<Sending> sending_;
  std::size_t unsent_ = 0;
  std::size_t waiting_ = 0;  // messages that have not been put out
  bool reaping_ = false;
  bool stopping_ = false;
  std::optional<std::string> broken_;
  std::condition_variable started_;

  std::thread sender_;
};

}  // namespace headrace
