#include "headrace/transport/c10d/nccl.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace headrace {

// A send occupies its stream until the peer receives. With one communicator for both directions two
// ranks that send to each other at once would wait for ever; hence two.
DeviceGroups nccl_groups(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size) {
  const auto group = [&](const char* name) -> GroupBackend {
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::make_intrusive<c10d::PrefixStore>(name, store), rank, size,
        c10d::ProcessGroupNCCL::Options::create());
  };
  return {group("nccl_to_higher"), group("nccl_to_lower")};
}

}  // namespace headrace
