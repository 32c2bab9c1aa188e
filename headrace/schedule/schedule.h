// A Schedule is, for every rank, the ordered list of actions it does, plus the placement. Plain
// data: it goes into the checker, the simulator, the drawing and the executor, none of which knows
// the name of any schedule.
//
//   Schedule schedule = one_f_one_b(4, 8);                  // compute only
//   check(validate(schedule).violations.empty(), "…");
//   Schedule lowered = lower(schedule);                     // with sends and receives
//
// Text form: PyTorch's CSV, one row a rank, cells as action.h says, "(0F7;7B3)OVERLAP_F_B" for an
// overlapped pair. Empty cells (idle steps) are read and dropped; so are UNSHARD and RESHARD, which
// mean nothing here. An empty line is an error: every line is a rank, and a rank without a single
// action is most likely a slip; who means it writes ",".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headrace/schedule/action.h"
#include "headrace/schedule/placement.h"

namespace headrace {

struct Schedule {
  std::string name;
  Placement placement;
  int microbatches = 0;
  // Sequence splits of each microbatch (Seq1F1B). Above 1, unit u is split u mod k of microbatch u
  // div k, `microbatches` counts units, and splits depend on one another: forward on the split
  // before, backward on the one after.
  int sequence_splits = 1;
  std::vector<std::vector<Action>> ranks;
};

// True where the schedule holds a send or a receive.
bool has_transfers(const Schedule& schedule);

// True where nothing is left for lower() to do but what it may leave out: the schedule holds sends
// and receives, or gradient reductions where no tensor changes ranks. (PyTorch's compute-only GPipe
// holds reductions and no send: that one is not lowered.)
bool is_lowered(const Schedule& schedule);

// True where stages are updated while microbatches are under way.
bool is_asynchronous(const Schedule& schedule);

// PyTorch's CSV. Update actions are written too ("0U"); PyTorch knows none, so only asynchronous
// schedules hold them.
std::string to_csv(const Schedule& schedule);

// Reads the same. The placement is inferred from who does what. Throws Error with row and cell of
// the first bad one.
Schedule parse_csv(std::string_view text, std::string name);

}  // namespace headrace
