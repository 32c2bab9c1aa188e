// Proves a schedule sound, or says everything that is wrong with it. Throws nothing.
//
// Checked: missing, duplicate and out-of-range actions, and actions on a rank that does not hold
// the stage; order on a rank (a backward before its forward, W before I); backward out of ascending
// microbatch order within a stage; on a lowered schedule, a channel (ordered pair of ranks) whose
// send order differs from its receive order, and a cycle of waits that deadlocks when a send blocks
// until it is received (no buffer at all), with the witness: who waits for whom. On a compute-only
// schedule the same deadlock check runs on dependencies alone. A schedule without any backward is
// forward-only and is checked as such.
#pragma once

#include <string>
#include <vector>

#include "headrace/schedule/schedule.h"

namespace headrace {

struct Violation {
  int rank = -1;       // -1 where the fault is on no single rank (a missing action)
  int position = -1;   // index in the rank's list; -1 where there is none
  std::string action;  // text of the action concerned
  std::string what;    // one sentence
};

std::string to_string(const Violation& violation);  // "rank 1, position 3, 1B0: comes before 1F0"

struct Validation {
  std::vector<Violation> violations;
  // For each rank: the most stage-microbatches held at once (F adds one, B or W frees it).
  std::vector<int> peak_activations;
  // For each rank: the most received tensors and posted receives not yet consumed.
  std::vector<int> peak_receives;
};

Validation validate(const Schedule& schedule);

// Throws Error listing the violations (the first ten, then a count) where there is one.
void require_valid(const Schedule& schedule);

}  // namespace headrace
