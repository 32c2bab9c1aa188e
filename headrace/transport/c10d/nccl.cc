#include "headrace/transport/c10d/nccl.h"

#include <chrono>
#include <cstdlib>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace headrace {

void prepare_nccl(const std::string& interface) {
  constexpr int kNotOver = 0;
  // By that name alone, not by all that begin so.
  if (!interface.empty()) ::setenv("NCCL_SOCKET_IFNAME", ("=" + interface).c_str(), kNotOver);
  // c10d would end the process, by its own clock, where an operation takes long or a peer is gone: waits here have
  // limits of their own, and an end that names who was at fault.
  constexpr int kOver =
      1;  // also over what torchrun sets for programs that have no limits of their own
  for (const char* variable : {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_ENABLE_MONITORING",
                               "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_RETHROW_CUDA_ERRORS"})
    ::setenv(variable, "0", kOver);
}

// A send occupies its stream until the peer receives: with one communicator for both directions two ranks that send
// to each other at once would wait for ever.
GroupBackend nccl_pair(const std::string& name,
                       const c10::intrusive_ptr<c10d::Store>& store,
                       bool is_lower) {
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = std::chrono::hours(24 * 365);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::make_intrusive<c10d::PrefixStore>(name, store), is_lower ? 0 : 1, 2, options);
}

}  // namespace headrace
