// How a message looks on the wire: a first part of limited size that describes it, with
// everything inside where it fits, then whatever did not fit.
//
//   first part:  prefix | descriptions | values        a small message: one transfer
//   first part:  prefix | descriptions                 then one transfer a tensor that has elements
//   first part:  prefix                                then the descriptions, then the tensors
//
// Prefix and descriptions are in the machine's own byte order; the magic number tells if the peer's
// is another. All throws are Error.
#pragma once

#include <cstdint>
#include <vector>

#include "headrace/transport/transport.h"

namespace headrace {

constexpr std::int64_t kFirstPart = 16384;  // where its buffer waits for it (shared_ring.h: not)

struct Packed {
  torch::Tensor first;  // bytes
  Tensors rest;         // in the order of their transfers
};

// `tensors` must be dense (dense.h). `values` are the same, or copies on the CPU of those on a device; what is
// there is moved from where it is, and inside of the first part is only what is on the CPU.
Packed pack(const Label& label,
            std::uint64_t sequence,
            double sent,
            const Tensors& tensors,
            const Tensors& values,
            std::int64_t first_part = kFirstPart);

// The last first part of all: nothing more will come.
torch::Tensor pack_end(std::uint64_t sequence);

// What a first part says.
struct Opened {
  bool end = false;
  Label label;
  std::uint64_t sequence = 0;
  double sent = 0;
  std::int64_t descriptions = 0;  // bytes; they come as a transfer of their own where apart
  bool descriptions_apart = false;
  bool values_inside = false;
};
Opened open_first(const torch::Tensor& first);

// Tensors of the described types and shapes. Their values are not yet there, unless they were
// inside of the first part.
struct Received {
  Tensors tensors;
  std::vector<bool> on_device;      // at the sender, the tensor was not on the CPU
  std::vector<bool> requires_grad;  // to be set when the values are there
};
// Where the values of a tensor that was on a device come to: to `device` itself, where its way is straight, or to
// memory of the host that is copied from there.
Received receive_buffers(const Opened& opened,
                         const torch::Tensor& first,
                         const torch::Tensor& descriptions,
                         torch::Device device,
                         bool is_straight);

}  // namespace headrace
