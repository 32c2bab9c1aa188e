// A device that is none: libtorch's place for backends of others (PrivateUse1), whose kernels are the CPU's on copies,
// and whose memory nobody may touch outside of them: its pages are closed, and who reads them is ended by the
// system. It shows, without a GPU, what the CPU hides: operations over two devices, reads of a device's memory by
// the host, and how often the host waits for the device (each copy to it is one wait).
//
//   const torch::Device device = test_device();   // registers it, once
//   const std::int64_t before = host_waits();
//   …                                             // train on `device`
//   EXPECT_EQ(host_waits() - before, 1);
#pragma once

#include <cstdint>

#include <torch/types.h>

namespace headrace {

torch::Device test_device();

// Copies from the device to the host that the program has asked for, over all threads; those of the kernels'
// stand-ins are none.
std::int64_t host_waits();

}  // namespace headrace
