// Operations of c10d's back ends between this rank and one peer on one channel: of the host (Gloo), and, where
// there is one, straight between two devices (NCCL).
//
// They have no limit of their own, as Gloo closes all connections of a group when one runs out; end() ends those
// that are under way. What goes wrong with the connection is a ConnectionError; what is this rank's own fault, as that
// it has no memory, comes as it is. For any thread.
#pragma once

#include <functional>
#include <limits>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/types.h>

#include "headrace/base/error.h"

namespace headrace {

using GroupBackend = c10::intrusive_ptr<c10d::Backend>;
using GroupWork = c10::intrusive_ptr<c10d::Work>;

// Makes what moves tensors from the device of the lower of two ranks straight to that of the higher, or back, once both
// want it; or nothing, where `stop`, which is asked again and again, has said so before. Each direction has its own, so
// that neither waits for the other, and it is used by one thread at a time.
using DirectGroup = std::function<GroupBackend(bool to_higher, const std::function<bool()>& stop)>;
// The same of any two ranks, channel and direction, which the name tells from others, when both are there.
using DirectPair = std::function<GroupBackend(
    const std::string& name, const c10::intrusive_ptr<c10d::Store>& store, bool is_lower)>;

// What a rank brings to a run over c10d.
struct DeviceUse {
  torch::Device device = torch::kCPU;
  int ranks_per_device = std::numeric_limits<int>::max();  // at most, on its host
  DirectPair direct = {};                                  // in NCCL's place
};

// What an operation, or the wait for it, throws once end() was called.
struct Ending {};

class ConnectionError : public Error {
 public:
  using Error::Error;
};

class Operations {
 public:
  // `direct` may be empty.
  Operations(int rank, int peer, int channel, GroupBackend host, DirectGroup direct);

  // Tensors on devices need not come to the host.
  bool is_straight() const { return direct_ != nullptr; }

  GroupWork start_send(torch::Tensor tensor, int tag) { return start(true, tensor, tag); }
  GroupWork start_receive(torch::Tensor tensor, int tag) { return start(false, tensor, tag); }
  // Waits until it is done.
  void finish(const GroupWork& work);
  // Whether it is, of a tensor on a device; finish() then returns at once, or throws why it has failed.
  static bool is_done(const GroupWork& work) { return work->isCompleted(); }
  // Of a tensor on a device: what this thread gives to the device from here on comes after it. No wait.
  static void finish_on_device(const GroupWork& work);
  void end();

 private:
  GroupWork start(bool sending, const torch::Tensor& tensor, int tag);
  GroupWork start_on_host(bool sending, std::vector<torch::Tensor>& tensors, int tag);
  GroupWork start_on_device(bool sending, std::vector<torch::Tensor>& tensors);
  GroupBackend direct_group(bool sending);
  bool is_ending();
  void forget(const GroupWork& work);

  const int peer_, channel_;
  const bool is_lower_;
  const GroupBackend host_;
  const DirectGroup direct_;

  std::mutex mutex_;
  GroupBackend outwards_, inwards_;  // made when they are first used
  std::set<GroupWork> under_way_;    // over the host
  bool ending_ = false;
};

}  // namespace headrace
