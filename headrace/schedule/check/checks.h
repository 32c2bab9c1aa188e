// The parts of validate(), each a pass over the schedule that adds what it finds wrong. In this
// order: later ones trust the table of positions that check_places fills.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

struct Checks {
  explicit Checks(const Schedule& checked);

  const Schedule& schedule;
  const Dependencies depend;
  bool has_backward = false;
  bool has_split = false;   // some I or W
  bool has_update = false;  // asynchronous

  // Where each action stands on its rank, by slot; -1: nowhere. Duplicates and misplaced actions
  // are not in it.
  std::vector<int> position;
  std::vector<int> weight_position;  // of W, by stage · microbatches + microbatch
  bool well_placed = true;           // no action is out of range, misplaced or there twice

  std::vector<Violation> violations;

  const Action& action(int rank, int at) const {
    return schedule.ranks[static_cast<std::size_t>(rank)][static_cast<std::size_t>(at)];
  }
  std::size_t pair(int stage, int microbatch) const {
    return static_cast<std::size_t>(stage) * static_cast<std::size_t>(schedule.microbatches) +
           static_cast<std::size_t>(microbatch);
  }
  int position_of(Kind kind, int stage, int microbatch) const {
    return position[static_cast<std::size_t>(depend.slot(kind, stage, microbatch))];
  }
  // The table's entry for an action with a microbatch.
  int& entry(const Action& a) {
    return a.kind == Kind::BackwardWeight ? weight_position[pair(a.stage, a.microbatch)]
                                          : position[static_cast<std::size_t>(depend.slot(a))];
  }
  // True for an action that is where the table says.
  bool stands(int rank, int at) {
    if (well_placed) return true;
    const Action& a = action(rank, at);
    if (!depend.holds(a)) return false;
    if (!has_microbatch(a.kind)) return true;
    return depend.rank(a.stage, a.microbatch) == rank && entry(a) == at;
  }
  void report(int rank, int at, std::string what) {
    violations.push_back({rank, at, to_string(action(rank, at)), std::move(what)});
  }
};

bool check_shape(const Schedule& schedule, std::vector<Violation>& violations);
void check_places(Checks& checks);
void check_complete(Checks& checks);
void check_order(Checks& checks);
void check_stage_order(Checks& checks);  // ascending backward; reductions and updates
void check_channels(Checks& checks);
void check_waits(Checks& checks);  // deadlock
void measure_peaks(Checks& checks, Validation& validation);

}  // namespace headrace
