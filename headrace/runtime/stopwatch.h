// When things happen in the order of a rank's work: on the CPU as its clock says; on a device, whose work is behind
// the host's, as the device says, which is known once it has come there.
//
//   Instant begun = watch.take();
//   …                               // work is given to the device
//   transport.await(Mark::now(device));
//   watch.read();                   // what was taken until now is known
//   watch.seconds(begun);           // on the clock that the ranks share
#pragma once

#include "headrace/tensor/streams.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct Instant {
  double seconds = 0;
  Mark mark;  // instead, on a device
};

class Stopwatch {
 public:
  Stopwatch(const Transport& transport, torch::Device device)
      : transport_(transport), device_(device) {}

  bool is_of_device() const { return !device_.is_cpu(); }
  Instant take() const;
  // The device has done what this thread has given to it.
  void read();
  double seconds(const Instant& instant) const;

 private:
  const Transport& transport_;
  const torch::Device device_;
  Instant last_;  // both are known of it
};

}  // namespace headrace
