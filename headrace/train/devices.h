// Which device each rank computes on, and what the run says of it.
//
//   const DeviceChoice choice = choose_device(config.pipeline, {.rank = 0, .size = 4});
//   transport = c10d_transport(place, limit, {.device = choice.device, …});
//   require_device(config.pipeline, *transport, choice);
//   say(devices_text(*transport, choice.why_cpu));
#pragma once

#include <string>

#include "headrace/tensor/devices.h"
#include "headrace/train/config/config.h"
#include "headrace/transport/transport.h"

namespace headrace {

// A rank among those of its host.
struct PlaceOnHost {
  int rank = 0;
  int size = 1;
  // All see the same devices. Else a launcher may have shown each its own alone, as srun --gpus-per-task does, so that
  // only all of them together know whether there are enough.
  bool same_view = true;
};

struct DeviceChoice {
  torch::Device device = torch::kCPU;
  std::string
      why_cpu;  // what speaks for the CPU, if it does; "no CUDA device: this libtorch is a CPU build"
};

// Of a rank: `auto` takes CUDA where there is a device for each of the host. Throws UsageError where CUDA is asked for
// and there is none, or are too few.
DeviceChoice choose_device(const PipelineConfig& pipeline,
                           const PlaceOnHost& place,
                           const CudaDevices& found = cuda_devices());

// Throws UsageError, on every rank, where CUDA is asked for and the ranks have found out together that they have it not.
void require_device(const PipelineConfig& pipeline,
                    const Transport& transport,
                    const DeviceChoice& choice);

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
