// Moves tensors between the ranks of one run. One interface, two implementations: `local` (ranks
// are threads of one process) and `c10d` (processes; TCPStore + Gloo, on CUDA NCCL).
//
//   auto arrival = transport.receive(0, label);   // posted; returns at once
//   transport.send(2, label, {output});           // started; the tensors are kept until they left
//   Message message = arrival->wait();            // blocks, at most the limit
//
// For every ordered pair of ranks and channel (below) messages arrive in the order sent, and
// receives must be posted in that order: both ends state the label, and a difference is an Error
// that gives both, never a wrong tensor. A message is a list of tensors of any number, dtype, shape
// and layout (an undefined tensor stands for "none"); dense contiguous tensors arrive, with the
// sender's dtype, shape and requires_grad. Receivers must not write into them: `local` hands over
// the sender's storage (and with it the version by which autograd finds a user's module out that
// does, where the sender still needs what it overwrote).
//
// Every wait ends: by the message, by the limit, by the end of the peer, or by abort(). A wait that
// fails throws PeerError naming the peer at fault. Methods are for the one thread that runs the
// rank, abort() for any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "headrace/base/error.h"
#include "headrace/tensor/streams.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

enum class Purpose : std::uint8_t {
  Activations,
  Gradients,
  SharedGradients,  // of parameters that several ranks hold, to the one that adds them up
  SharedSums,       // and back
  Parameters,       // from the rank that updated them
  AllGather,
  Clock
};

// What is shared between owners goes beside the pipeline's own messages, in neither's way.
constexpr std::size_t kChannels = 2;
constexpr std::size_t channel_of(Purpose purpose) {
  return purpose == Purpose::SharedGradients || purpose == Purpose::SharedSums ||
                 purpose == Purpose::Parameters
             ? 1
             : 0;
}

// What a message is. The stage is the sender's; on the second channel there is none, and
// `microbatch` is the number of a group of shared parameters. Steps are counted from 0 here, and
// from 1 in texts; below 0 are messages outside of any step.
struct Label {
  Purpose purpose = Purpose::AllGather;
  std::int64_t step = 0;
  int stage = -1;
  int microbatch = -1;

  bool operator==(const Label&) const = default;
};

std::string to_string(const Label& label);  // "activations of stage 1, microbatch 3, step 7"

struct Message {
  Tensors tensors;
  double sent = 0;  // when the sender started it, on this rank's clock (seconds; transport.clock())
  double arrived = 0;  // when it was here as a whole, as far as this rank has looked
  // Of tensors on devices: what has to be done there before they may be used. Arrival::wait() sees to it.
  Marks ready = {};
};

// A peer is gone, or was silent beyond the limit. `peer` is the rank at fault, as far as can be
// told: where ranks wait for one another, the one at the end of the chain, not the nearest.
class PeerError : public Error {
 public:
  PeerError(int at_fault, const std::string& what) : Error(what), peer(at_fault) {}
  int peer;
};

class Arrival {
 public:
  Arrival() = default;
  Arrival(const Arrival&) = delete;
  Arrival& operator=(const Arrival&) = delete;
  virtual ~Arrival() = default;

  // The message; may be called once. Its tensors on devices may still be on their way: what the caller's thread
  // gives to the device from here on comes after them.
  virtual Message wait() = 0;
};

// The first failure of a run, agreed between the ranks.
struct Failure {
  int rank = -1;  // whose failure it is: the one at fault, where that is known
  std::string what;
  // True on exactly one rank, as far as ranks can still talk: the one that tells the user.
  bool reported_here = true;
};

class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string host(int rank) const = 0;
  // How often a launcher that starts ranks anew in one store (torchrun) has started this run before.
  virtual int restarts() const { return 0; }

  // Where tensors that left a device of a peer arrive. The CPU, unless every rank has a device.
  virtual torch::Device device() const { return torch::kCPU; }
  // Whether they go there without a way through the host, between all ranks of this one's.
  virtual bool is_straight() const { return true; }

  virtual void send(int to, const Label& label, const Tensors& tensors) = 0;
  virtual std::unique_ptr<Arrival> receive(int from, const Label& label) = 0;
  // Waits until everything this rank has sent has left it.
  virtual void flush() = 0;
  // Waits until the device has come to a mark. The one wait for it that ends as all waits do: a device that waits
  // for a peer that is gone would hold this thread for ever.
  void await(const Mark& mark);

  // The limit of each wait, in seconds (start-up and steps have different ones).
  virtual void set_limit(double seconds) = 0;
  virtual double limit() const = 0;
  // Seconds on a clock that all ranks of the run share (to within clock_error()).
  virtual double clock() const = 0;
  virtual double clock_error() const = 0;

  // Tells all ranks that this one has failed and ends every wait of theirs; returns the first
  // failure of the run.
  virtual Failure fail(int at_fault, const std::string& what) = 0;
  // Ends every wait of this rank with an Error. For any thread.
  virtual void abort(const std::string& why) = 0;

 private:
  // Throws why this rank need not wait any more, where the run has failed or a peer is gone.
  virtual void require_running() = 0;
};

bool spans_hosts(const Transport& transport);
// ", host h2" where the ranks of the run are on several hosts; else nothing.
std::string host_text(const Transport& transport, int rank);

}  // namespace headrace
