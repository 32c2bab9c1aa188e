// Straight transfers between CUDA devices, in builds whose Torch has NCCL.
#pragma once

#include <string>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "headrace/transport/c10d/operations.h"

namespace headrace {

#ifdef HEADRACE_CUDA
constexpr bool has_nccl = true;
// Sets what NCCL and c10d read of it from the environment; before there are other threads. `interface`, if any: the
// network over which its ranks are to meet, where NCCL_SOCKET_IFNAME names none.
void prepare_nccl(const std::string& interface);
// Of two ranks, for one channel and direction, which `name` tells from others. They connect when the first operation
// has come to both.
GroupBackend nccl_pair(const std::string& name,
                       const c10::intrusive_ptr<c10d::Store>& store,
                       bool is_lower);
#else
// Tensors on devices then travel through the CPU.
constexpr bool has_nccl = false;
inline void prepare_nccl(const std::string&) {}
inline GroupBackend nccl_pair(const std::string&, const c10::intrusive_ptr<c10d::Store>&, bool) {
  return {};
}
#endif

}  // namespace headrace
