// A costs file: the times of a schedule's actions by stage, in TOML or JSON.
//
//   forward = [10.5, 10.4, 10.4, 36.8]        # one a stage, or a single number for all
//   backward_input = [12.6, 10.5, 10.5, 26.2]
//   backward_weight = 12.6
//   latency = 0.4                             # and the other members of Costs, all optional
//
// Read strictly: an unknown key is a UsageError with the nearest known one.
#pragma once

#include <string>

#include "headrace/schedule/costs.h"

namespace headrace {

void read_costs(const std::string& path, Costs& costs);

}  // namespace headrace
