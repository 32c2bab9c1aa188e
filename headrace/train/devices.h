// Which device each rank computes on, and what the run says of it.
//
//   const DeviceChoice choice = choose_device(config.pipeline, place.local_rank, place.local_size);
//   transport = c10d_transport(place, limit, choice.device);
//   say(devices_text(transport, choice.why_cpu));
#pragma once

#include <string>

#include "headrace/tensor/devices.h"
#include "headrace/train/config/config.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct DeviceChoice {
  torch::Device device = torch::kCPU;
  std::string why_cpu;  // where it might have been another; "this libtorch is a CPU build"
};

// Of a rank by its number among those of its host: `auto` takes CUDA where there is a device for each of them.
// Throws UsageError where CUDA is asked for and there is none, or are too few.
DeviceChoice choose_device(const PipelineConfig& pipeline,
                           int local_rank,
                           int local_size,
                           const CudaDevices& found = cuda_devices());

// Makes the process's kernels on the device give the same bits each time, or refuse to. On the CPU they do.
void set_deterministic(bool deterministic, torch::Device device);

// "4 × NVIDIA H100, a rank each; tensors go straight between them", and, of auto on the CPU, the first rank that
// has no other and why. Every rank calls it.
std::string devices_text(Transport& transport, const std::string& why_cpu);

// Throws Error where what a rank's tensors will take, as predicted, is more than its device has.
void require_device_memory(const Config& config, const Transport& transport, double bytes);

// What a run that was out of memory might do about it.
std::string memory_advice();

}  // namespace headrace
