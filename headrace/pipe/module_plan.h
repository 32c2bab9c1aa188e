// The plan of a Pipe: which modules of a torch::nn::Sequential make up which stage.
#pragma once

#include <torch/torch.h>

#include "headrace/pipe.h"
#include "headrace/plan/plan.h"

namespace headrace {

// By `balance` (modules a stage), or, where that is empty, such that the largest number of
// parameters of a stage is least. Throws UsageError where the options do not fit the model or one
// another, or two stages would have a tensor in common.
Plan plan_modules(const torch::nn::Sequential& model, const PipeOptions& options);

// Of step(), proved and lowered. Throws UsageError for a schedule that Pipe does not run.
Schedule schedule_of_step(const Plan& plan, int microbatches);

}  // namespace headrace
