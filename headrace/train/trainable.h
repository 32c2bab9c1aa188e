// What of a configuration can only be judged by the model and the schedule that it makes: before
// any process or network starts.
#pragma once

#include "headrace/plan/plan.h"
#include "headrace/train/config/config.h"

namespace headrace {

// Wants a resolved configuration. Throws UsageError where model, stages and schedule do not fit.
Plan plan_of(const Config& config);

// The plan's schedule of a batch of so many microbatches. Throws UsageError where it takes another
// number.
Schedule training_schedule(const Plan& plan, int microbatches);

// Throws UsageError where the schedule does not take the sizes, or the rest of the configuration
// not the schedule, or where the ranks that this machine is to hold, all or at least one, need more
// memory than it has. Wants a resolved configuration.
void require_trainable(const Config& config, bool all_on_this_machine);

}  // namespace headrace
