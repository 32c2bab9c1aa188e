// What a rank's tensors will take at their most, by arithmetic: before anything runs, or beside
// what a run has measured.
//
//   std::vector<double> bytes = predict_memory(plan, schedule, {.rows = 4, .state_bytes = 8});
//
// Counted are weights, gradients and optimizer state; what the schedule holds between forwards and
// backwards (by the simulator); what a layer needs in passing; and messages under way. Not counted
// are buffers inside of operations, as of matrix libraries.
#pragma once

#include <vector>

#include "headrace/plan/plan.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

struct MemoryOptions {
  double rows = 1;           // sequences a microbatch
  double product_bytes = 4;  // of a number of the matrix products' type
  double state_bytes = 8;    // of the optimizer, a parameter: AdamW 8, SGD 0, with momentum 4
  bool sharded = false;      // the state is spread over a stage's replicas
  double batch_bytes = 0;    // of tokens and targets that every rank holds
  // Weights and state are copied while training goes on, each by one of its replicas: for a
  // checkpoint that is written meanwhile.
  bool checkpoints = false;
};

// Bytes that a microbatch makes a stage hold from its forward to its backward.
double held_activations(const Plan& plan, int stage, const MemoryOptions& options);

// Throws UsageError where the weights of a single rank and their gradients, without which nothing
// can be done, are more than this machine has memory.
void require_memory_for_weights(const Plan& plan);

// Bytes, for each rank of the schedule.
std::vector<double> predict_memory(const Plan& plan,
                                   const Schedule& schedule,
                                   const MemoryOptions& options);

}  // namespace headrace
