// Straight transfers between CUDA devices, in builds whose Torch has NCCL.
#pragma once

#include <string>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "headrace/transport/c10d/operations.h"

namespace headrace {

#ifdef HEADRACE_CUDA
constexpr bool has_nccl = true;
// Of two ranks, for one channel and direction, which `name` tells from others. They connect when the first operation
// has come to both.
GroupBackend nccl_pair(const std::string& name, c10d::Store& store, bool is_lower);
#else
// Tensors on devices then travel through the CPU.
constexpr bool has_nccl = false;
inline GroupBackend nccl_pair(const std::string&, c10d::Store&, bool) {
  return {};
}
#endif

}  // namespace headrace
