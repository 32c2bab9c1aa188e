// What the actions of a plan's stages cost by the layers' own estimates: for who compares
// schedules before anything has been measured.
//
//   Costs costs = stage_costs(plan);
//
// Times are those of one sequence, in the unit that stages are balanced by (LayerCost::weight). An
// input gradient is taken to cost what the forward does, and a weight gradient its matrix products;
// what is recomputed comes on top. Transfers take no time: no link has been measured. Memory is
// what a stage holds of a sequence from forward to backward, in bytes of fp32.
#pragma once

#include "headrace/plan/plan.h"
#include "headrace/schedule/costs.h"

namespace headrace {

Costs stage_costs(const Plan& plan);

}  // namespace headrace
