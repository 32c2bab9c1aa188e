// Straight transfers between CUDA devices, in builds whose Torch has NCCL.
#pragma once

#include <string>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "headrace/transport/c10d/operations.h"

namespace headrace {

#ifdef HEADRACE_CUDA
constexpr bool has_nccl = true;
// Of one channel, which `name` tells from others. Two ranks connect when they first send to one another.
DeviceGroups nccl_groups(const std::string& name, c10d::Store& store, int rank, int size);
#else
// Tensors on devices then travel through the CPU.
constexpr bool has_nccl = false;
inline DeviceGroups nccl_groups(const std::string&, c10d::Store&, int, int) {
  return {};
}
#endif

}  // namespace headrace
