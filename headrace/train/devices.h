// Which device each rank computes on: what it chooses for itself, and what all of them together make of it.
//
//   const DeviceChoice choice = choose_device(config.pipeline, {.rank = 0, .size = 4});
//   transport = c10d_transport(place, limit, {.device = choice.device, …});
//   const RunDevices devices = gather_devices(*transport, choice);
//   require_devices(config.pipeline, devices);
//   say(devices_text(config.pipeline, devices));
#pragma once

#include <string>
#include <vector>

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
  // What speaks for the CPU, if it does ("no CUDA device: this libtorch is a CPU build"), and what to do about it.
  std::string why_cpu, remedy;
};

// Sets what CUDA reads of the environment for several ranks, where nobody has set it; before its first use.
void prepare_cuda();
// Of a rank: CUDA where it is not ruled out and there is a device for each of the host; else the CPU, with why.
DeviceChoice choose_device(const PipelineConfig& pipeline,
                           const PlaceOnHost& place,
                           const CudaDevices& found = cuda_devices());
// Throws UsageError where CUDA is asked for and the choice is another.
void require_cuda(const PipelineConfig& pipeline, const DeviceChoice& choice);

// Of a rank, as all ranks know it.
struct RankDevice {
  std::string host;
  DeviceChoice choice;  // `device` by kind alone
  std::string identity;
  std::string name;
  bool is_used = false;   // by it; else all use the CPU
  bool straight = false;  // Transport::is_straight
};
using RunDevices = std::vector<RankDevice>;  // by rank

// Every rank calls it. Where the transport has a device, whatever was chosen, that is the rank's.
RunDevices gather_devices(Transport& transport, const DeviceChoice& choice);
// Throws UsageError, the same on every rank, where CUDA is asked for and is not what all use.
void require_devices(const PipelineConfig& pipeline, const RunDevices& devices);
// "4 × NVIDIA H100, a rank each; tensors go straight between them"; "CPU: …" and why, where there is a reason.
std::string devices_text(const PipelineConfig& pipeline, const RunDevices& devices);
// How many devices the ranks use; on CPUs, where each has cores of its own, how many ranks there are.
int count_devices(const RunDevices& devices);

// Throws UsageError, the same on every rank, where a device has less memory than the tensors of the ranks that use it
// will take, `bytes` of this one's as predicted. Every rank calls it.
void require_device_memory(const RunDevices& devices, Transport& transport, double bytes);

// Makes the process's kernels on the device give the same bits each time, or refuse to. On the CPU they do.
void set_deterministic(bool deterministic, torch::Device device);

// What a run that was out of memory might do about it.
std::string memory_advice();

}  // namespace headrace
