// Adds sends and receives between ranks, and ReduceGradients after a stage's last backward (in
// asynchronous schedules: before each update of a stage with replicas).
//
// Each send follows its producer at once. Where its receive goes on the peer is decided by running
// the schedule on paper: for every ordered pair of ranks the receive order equals the send order,
// there is a compute action between a receive and its consumer (unless the rank has done nothing
// yet), and receive buffers stay bounded: 1F1B's are flat in M. Even with sends that last until the
// peer comes to the receive, nothing deadlocks. Neighbouring stages on one rank hand their tensors
// over, unsent. A schedule that holds transfers is returned as it is. Throws Error where the
// compute order itself cannot run.
#pragma once

#include <cstdint>

#include "headrace/schedule/schedule.h"

namespace headrace {

enum class Receives : std::uint8_t {
  // Before the last action that starts before the message is sent, so that it can come in under
  // that action whatever the real times. For runtimes that post receives and go on, as ours.
  Early,
  // At the moment of sending, in one order of all messages for all ranks. Then nothing deadlocks
  // even where sends and receives of a pair of ranks block one another, as on one NCCL stream: for
  // files that other runtimes execute. Fewer transfers overlap compute.
  Paired,
};

Schedule lower(const Schedule& schedule, Receives rule = Receives::Early);

}  // namespace headrace
