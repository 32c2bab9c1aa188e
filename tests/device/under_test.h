// The devices that the suites of this folder run on: the test device's, or, in the programs labelled gpu, CUDA's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <torch/types.h>

namespace headrace {

// How many there are; on CUDA there may be none.
int devices_under_test();
torch::Device device_under_test(int index = 0);

// How often the host has waited, where that is counted (test_device.h).
std::optional<std::int64_t> waits_so_far();
// How far numbers may be from the CPU's, relative to what the test device's may.
double looseness();

}  // namespace headrace
