// The order of work on a device whose streams run beside one another and behind the host. On the CPU, where
// work is done when it was asked for, all of it is nothing.
//
//   const Mark computed = Mark::now(device);      // all that this thread has given to the device so far
//   …                                             // elsewhere, in another thread:
//   const OwnStream beside(device);               // from here on this thread's work runs beside others'
//   computed.come_after();                        // but after that, which the device sees to
//
//   const Marks ready = marks_of(tensors);        // for another thread to use them:
//   take_over(tensors, ready);                    // it does so here
//
// Each thread has a current stream for each device (c10/core/Stream.h), at first the device's default one.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <c10/core/StreamGuard.h>
#include <torch/types.h>

#include "headrace/tensor/tensors.h"

namespace c10 {
struct Event;
}

namespace headrace {

class Mark {
 public:
  Mark() = default;  // of nothing, as on the CPU
  // The end of what this thread has given to its current stream of the device.
  static Mark now(torch::Device device);
  // The same, with its time, which a host clock does not know.
  static Mark timed(torch::Device device);

  bool on_device() const { return event_ != nullptr; }
  // What this thread gives to its current stream of the device from here on waits for it.
  void come_after() const;
  // Whether the device has come there.
  bool reached() const;
  // Of two timed marks that are reached.
  double seconds_until(const Mark& later) const;

 private:
  explicit Mark(std::shared_ptr<c10::Event> event) : event_(std::move(event)) {}
  std::shared_ptr<c10::Event> event_;
};

// While it lives, this thread's current stream of the device is one that no other OwnStream is on, as long as the
// device has so many (CUDA: 32), for copies and transfers beside what is computed.
class OwnStream {
 public:
  explicit OwnStream(torch::Device device);
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  ~OwnStream();

 private:
  std::optional<c10::StreamGuard> guard_;
};

using Marks = std::vector<Mark>;

// What this thread has given to the devices that the tensors are on: one mark each.
Marks marks_of(const Tensors& tensors);
// Tensors that another thread has made are used by this one from here on: its work comes after theirs, and when
// they are let go of, their memory is given to nobody else before its work is done.
void take_over(const Tensors& tensors, const Marks& ready);

// A copy on the device, and one in pinned memory of the host whose values are there when Mark::now() is reached:
// both without a wait. What is there already is given as it is.
torch::Tensor to_device(const torch::Tensor& on_host, torch::Device device);
torch::Tensor start_to_host(const torch::Tensor& on_device);

}  // namespace headrace
