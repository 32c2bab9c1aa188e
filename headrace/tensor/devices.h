// Which devices this process has, and what is known of them.
#pragma once

#include <cstdint>
#include <string>

#include <torch/types.h>

namespace headrace {

// CUDA's, as far as CUDA_VISIBLE_DEVICES shows them. Looked for once; no context is made on any.
struct CudaDevices {
  int count = 0;
  std::string why_none;  // where there are none: "this libtorch is a CPU build"
};
const CudaDevices& cuda_devices();

// "NVIDIA H100 80GB HBM3"; of others, and in a build without CUDA's headers, the device's number.
std::string device_name(torch::Device device);
// Tells it from every other on its host, however they are numbered; "cpu" for the CPU.
std::string device_identity(torch::Device device);

// From here on this thread's own: what asks for none, as pinned memory of the host, would else make a context, and
// take memory, on the first.
void use_device(torch::Device device);

// Bytes of tensors on a device, by its caching allocator: at their most since the process began. On the CPU
// those of the thread's account (memory.h).
std::int64_t peak_memory(torch::Device device);
// What a device has in all, in bytes; 0 where that is not known, as of the CPU.
double device_memory(torch::Device device);

}  // namespace headrace
