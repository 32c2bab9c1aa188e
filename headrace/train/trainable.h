// What of a configuration can only be judged by the model and the schedule that it makes: before
// any process or network starts.
#pragma once

#include "headrace/runtime/layout.h"
#include "headrace/train/config/config.h"

namespace headrace {

// Wants a resolved configuration. Throws UsageError where model, stages and schedule do not fit.
Layout layout_of(const Config& config);

// Throws UsageError where the schedule does not take the sizes, or the rest of the configuration
// not the schedule, or where the ranks that this machine is to hold, all or at least one, need more
// memory than it has. Wants a resolved configuration.
void require_trainable(const Config& config, bool all_on_this_machine);

}  // namespace headrace
