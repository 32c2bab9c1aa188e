// What plan/memory is told of a configuration: the types of numbers, the optimizer's state, copies for
// checkpoints.
#pragma once

#include <vector>

#include "headrace/plan/plan.h"
#include "headrace/train/config/config.h"

namespace headrace {

// Bytes that each rank's tensors take at their most.
std::vector<double> predicted_memory(const Config& config, const Plan& plan);

}  // namespace headrace
