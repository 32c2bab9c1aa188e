// A back end between two ranks' devices that does in one process what NCCL does between two: operations return at once,
// go on on a stream of their own after what their caller's stream was given, and synchronize() has the caller's stream
// wait for them, not the host. (The host does wait for a sender that has not come yet, which a device would.)
#pragma once

#include <string>

#include "headrace/transport/c10d/operations.h"

namespace headrace {

// As NCCL does, it waits for the other of the two, and cannot be stopped in that. abort() ends what is under way.
// `name`: of this pair alone.
GroupBackend direct_pair(const std::string& name, bool is_lower);

}  // namespace headrace
