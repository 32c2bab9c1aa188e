// Straight transfers between CUDA devices, in builds whose Torch has NCCL.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "headrace/transport/c10d/link.h"

namespace headrace {

#ifdef HEADRACE_NCCL
DeviceGroups nccl_groups(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size);
#else
// Tensors on devices then travel through the CPU.
inline DeviceGroups nccl_groups(const c10::intrusive_ptr<c10d::Store>&, int, int) {
  return {};
}
#endif

}  // namespace headrace
