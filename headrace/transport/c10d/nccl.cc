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
  constexpr int kNotOver = 0;
  ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", kNotOver);
  ::setenv("TORCH_NCCL_ENABLE_MONITORING", "0", kNotOver);
  ::setenv("TORCH_NCCL_DUMP_ON_TIMEOUT", "0", kNotOver);
}

}  // namespace

// A send occupies its stream until the peer receives: with one communicator for both directions two ranks that send
// to each other at once would wait for ever.
GroupBackend nccl_pair(const std::string& name, c10d::Store& store, bool is_lower) {
  leave_failures_to_us();
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = std::chrono::hours(24 * 365);
  // A connection of its own, as the wait for the peer holds it.
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::make_intrusive<c10d::PrefixStore>(name, store.clone()), is_lower ? 0 : 1, 2, options);
}

}  // namespace headrace
