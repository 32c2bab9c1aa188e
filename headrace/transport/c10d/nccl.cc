#include "headrace/transport/c10d/nccl.h"

#include <chrono>
#include <cstdlib>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace headrace {
namespace {

// c10d would end the process, by its own clock, where an operation takes long or a peer is gone: waits here have
// limits of their own, and an end that names who was at fault.
void leave_failures_to_us() {
  constexpr int kOver =
      1;  // also over what torchrun sets for programs that have no limits of their own
  for (const char* variable : {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_ENABLE_MONITORING",
                               "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_RETHROW_CUDA_ERRORS"})
    ::setenv(variable, "0", kOver);
}

}  // namespace

// A send occupies its stream until the peer receives: with one communicator for both directions two ranks that send
// to each other at once would wait for ever.
GroupBackend nccl_pair(const std::string& name, c10d::Store& store, bool is_lower) {
  leave_failures_to_us();
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = std::chrono::hours(24 * 365);
  // A connection of its own, as the wait for the peer holds it: as long as the peer takes, which may come to its first
  // operation much later.
  const auto own = store.clone();
  own->setTimeout(std::chrono::hours(24));
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::make_intrusive<c10d::PrefixStore>(name, own), is_lower ? 0 : 1, 2, options);
}

}  // namespace headrace
