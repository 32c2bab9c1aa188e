// The devices that the suites of this folder run on: the test device's, or, in the programs labelled gpu, CUDA's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <torch/types.h>

#include "headrace/transport/c10d/operations.h"

namespace headrace {

// How many there are; on CUDA there may be none.
int devices_under_test();
torch::Device device_under_test(int index = 0);

// How often the host has waited, where that is counted (test_device.h).
std::optional<std::int64_t> waits_so_far();
// How far numbers may be from the CPU's, relative to what the test device's may.
double looseness();
// In place of NCCL between these devices; nothing on CUDA, which has it.
DirectPair direct_in_place_of_nccl();

}  // namespace headrace
