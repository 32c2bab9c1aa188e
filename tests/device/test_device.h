// Devices that are none: libtorch's place for backends of others (PrivateUse1), whose kernels are the CPU's on
// copies, and whose memory nobody may touch outside of them: its pages are closed, and who reads them is ended by the
// system. They show, without a GPU, what the CPU hides: operations over two devices, reads of a device's memory by
// the host, how often the host waits for a device, and work on two streams that nothing puts in order.
//
//   const torch::Device device = test_device();   // registers them, once
//   const std::int64_t before = host_waits();
//   …                                             // train on `device`
//   EXPECT_EQ(host_waits() - before, 1);
//   EXPECT_THAT(order_faults(), IsEmpty());
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

namespace headrace {

// One of two.
torch::Device test_device(int index = 0);

// Over all threads: copies between host and device that the program has asked for, but those from or to pinned memory
// that need not be waited for; and waits for streams and events. Those of the kernels' stand-ins are none.
std::int64_t host_waits();

// While it is on, no event is reached: a device that has stopped.
void hold_events(bool on);

// From now on no tensor larger than that is made on the test devices: as if there were no memory left for it.
void limit_tensors(std::int64_t bytes);

// What has used memory without being put in order with who used it before, since this was last asked
// (stream_order.h).
std::vector<std::string> order_faults();

}  // namespace headrace
