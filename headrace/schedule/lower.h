// Adds sends and receives between ranks, and ReduceGradients after a stage's last backward.
//
// Each send follows its producer at once. Its receive is placed on the peer so that for every
// ordered pair of ranks the receive order equals the send order, early enough for the transfer to
// overlap compute, and without more receive buffers than that needs: 1F1B's stay flat in M.
// Neighbouring stages on one rank hand their tensors over, unsent. Throws Error where the compute
// order itself cannot run.
#pragma once

#include "headrace/schedule/schedule.h"

namespace headrace {

Schedule lower(const Schedule& schedule);

}  // namespace headrace
