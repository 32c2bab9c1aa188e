// The schedules that a Pipe runs, lowered and proven.
#pragma once

#include <string>

#include "headrace/schedule/schedule.h"

namespace headrace {

// Of step(), by its generator's name. Throws UsageError where that is asynchronous or splits
// sequences.
Schedule pipe_step(const std::string& name, int ranks, int microbatches);
Schedule pipe_forward(const Placement& placement, int microbatches);
// Backwards alone, after pipe_forward(): its forwards the other way round, but microbatches
// ascending.
Schedule pipe_backward(const Placement& placement, int microbatches);

}  // namespace headrace
