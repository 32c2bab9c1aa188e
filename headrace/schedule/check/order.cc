// Does each rank do things in an order that can be, with gradients that add up in one order?
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/check/checks.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

// What one rank has done for one stage so far.
struct StageState {
  int last_backward = -1;  // in the order of gradients; see gradient_order
  int last_gradient = -1;  // the same for what adds to the weights' gradient: B and W
  int reduced_at = -1;     // position of the reduction; synchronous schedules have one
  int unapplied = 0;       // backwards since the last update
  int updates = 0;
};

class StageOrder {
 public:
  explicit StageOrder(Checks& checks) : checks_(checks) {}

  void run() {
    const Schedule& schedule = checks_.schedule;
    const auto stages = static_cast<std::size_t>(schedule.placement.stages());
    std::vector<int> updates(stages);
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      rank_ = static_cast<int>(rank);
      // Few stages are on a rank, but any may be named: the table is kept and cleared by use.
      if (states_.size() < stages) states_.resize(stages);
      const std::vector<Action>& actions = schedule.ranks[rank];
      for (std::size_t at = 0; at < actions.size(); ++at) {
        if (checks_.stands(rank_, static_cast<int>(at))) visit(static_cast<int>(at), actions[at]);
      }
      for (const Action& a : actions) {
        if (a.stage < 0 || static_cast<std::size_t>(a.stage) >= stages) continue;
        StageState& state = states_[static_cast<std::size_t>(a.stage)];
        finish(a.stage, state);
        updates[static_cast<std::size_t>(a.stage)] += state.updates;
        state = {};
      }
    }
    if (checks_.has_update) compare(updates);
  }

 private:
  // With sequence splits, the later splits of a microbatch come first in the backward.
  int gradient_order(int microbatch) const {
    const int splits = checks_.schedule.sequence_splits;
    return microbatch - microbatch % splits + (splits - 1 - microbatch % splits);
  }

  void visit(int at, const Action& a) {
    StageState& state = states_[static_cast<std::size_t>(a.stage)];
    switch (a.kind) {
      case Kind::Backward:
        ascend(at, a, state.last_backward);
        if (checks_.has_split) ascend(at, a, state.last_gradient, "weight gradient");
        ++state.unapplied;
        break;
      case Kind::BackwardInput:
        ascend(at, a, state.last_backward);
        break;
      case Kind::BackwardWeight:
        ascend(at, a, state.last_gradient, "weight gradient");
        ++state.unapplied;
        break;
      case Kind::ReduceGradients:
        if (state.reduced_at >= 0 && !checks_.has_update)
          checks_.report(rank_, at, cat("is there twice: also at position ", state.reduced_at));
        state.reduced_at = at;
        return;
      case Kind::Update:
        if (state.unapplied == 0)
          checks_.report(rank_, at, "has no gradient to apply: no backward since the last update");
        state.unapplied = 0;
        ++state.updates;
        return;
      default:
        return;
    }
    if (state.reduced_at >= 0 && !checks_.has_update)
      checks_.report(rank_, at,
                     cat("comes after ", a.stage, "REDUCE_GRAD at position ", state.reduced_at,
                         ", which would leave its gradient out"));
  }

  void ascend(int at, const Action& a, int& last, const char* what = "backward") {
    const int order = gradient_order(a.microbatch);
    if (order < last)
      checks_.report(
          rank_, at,
          cat("breaks the ascending order of ", what,
              "s within a stage: comes after that of microbatch ", gradient_order(last)));
    last = std::max(last, order);
  }

  void finish(int stage, const StageState& state) {
    const auto add = [&](Kind kind, const std::string& what) {
      checks_.violations.push_back(
          {.rank = rank_, .action = to_string({.kind = kind, .stage = stage}), .what = what});
    };
    if (checks_.has_update && state.unapplied > 0)
      add(Kind::Update, cat("is missing: the last ", state.unapplied,
                            " backwards of the stage are never applied"));
    if (checks_.depend.transfers() && !checks_.has_update && state.last_backward >= 0 &&
        state.reduced_at < 0 && checks_.schedule.placement.replicas(stage) > 1)
      add(Kind::ReduceGradients, "is missing, though the stage has replicas");
  }

  // Stages that update at different times would train on versions that no rule relates.
  void compare(const std::vector<int>& updates) {
    const Placement& placement = checks_.schedule.placement;
    for (int stage = 1; stage < placement.stages(); ++stage) {
      const int here = updates[static_cast<std::size_t>(stage)];
      if (placement.replicas(stage) != placement.replicas(0) || here == updates[0]) continue;
      checks_.violations.push_back(
          {.rank = placement.rank(stage, 0),
           .action = to_string({.kind = Kind::Update, .stage = stage}),
           .what = cat("is done ", here, " times, but ", updates[0], " times by stage 0")});
    }
  }

  Checks& checks_;
  int rank_ = 0;
  std::vector<StageState> states_;
};

}  // namespace

void check_order(Checks& checks) {
  const Dependencies& depend = checks.depend;
  for (std::size_t list = 0; list < checks.schedule.ranks.size(); ++list) {
    const int rank = static_cast<int>(list);
    const std::vector<Action>& actions = checks.schedule.ranks[list];
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const int at = static_cast<int>(i);
      if (!checks.stands(rank, at)) continue;
      depend.each(actions[i], [&](Kind kind, int stage, int microbatch) {
        if (depend.rank(stage, microbatch) != rank) return;
        const int needed = checks.position_of(kind, stage, microbatch);
        if (needed > at)
          checks.report(rank, at,
                        cat("comes before ", to_string(checks.action(rank, needed)),
                            " at position ", needed, ", which it needs"));
        if (needed >= 0 && needed + 1 == at && actions[i - 1].overlaps_next)
          checks.report(rank, at,
                        cat("is overlapped with ", to_string(actions[i - 1]), ", which it needs"));
      });
    }
  }
}

void check_stage_order(Checks& checks) {
  StageOrder(checks).run();
}

}  // namespace headrace
