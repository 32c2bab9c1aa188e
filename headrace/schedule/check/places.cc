// Is every action one of this schedule, on the rank that holds its stage, and there once?
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/check/checks.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

// Empty where the action belongs on this rank.
std::string misplacement(const Checks& checks, int rank, const Action& a) {
  const Schedule& schedule = checks.schedule;
  const Placement& placement = schedule.placement;
  if (a.stage < 0 || a.stage >= placement.stages())
    return cat("stage out of range; stages are 0 to ", placement.stages() - 1);
  if (!has_microbatch(a.kind)) {
    const auto& owners = placement.owners[static_cast<std::size_t>(a.stage)];
    return std::ranges::count(owners, rank) > 0
               ? ""
               : cat("rank ", rank, " does not hold stage ", a.stage);
  }
  if (a.microbatch < 0 || a.microbatch >= schedule.microbatches)
    return cat("microbatch out of range; microbatches are 0 to ", schedule.microbatches - 1);
  const int owner = checks.depend.rank(a.stage, a.microbatch);
  if (owner != rank)
    return cat("microbatch ", a.microbatch, " of stage ", a.stage, " belongs to rank ", owner);
  if (!checks.has_backward && (a.kind == Kind::SendBackward || a.kind == Kind::RecvBackward))
    return "the schedule has no backward";
  if (!is_send(a.kind) && !is_recv(a.kind)) return "";
  if (!checks.depend.holds(a))
    return cat("stage ", a.stage, " has no neighbour there to ",
               is_send(a.kind) ? "send to" : "receive from");
  const int peer = checks.depend.rank(Dependencies::other_end(a).stage, a.microbatch);
  return peer == rank ? "both stages are on this rank; the tensor is handed over, not sent" : "";
}

}  // namespace

Checks::Checks(const Schedule& checked) : schedule(checked), depend(checked) {
  for (const std::vector<Action>& actions : schedule.ranks) {
    for (const Action& a : actions) {
      has_backward |= a.kind == Kind::Backward || a.kind == Kind::BackwardInput ||
                      a.kind == Kind::BackwardWeight;
      has_split |= a.kind == Kind::BackwardInput || a.kind == Kind::BackwardWeight;
      has_update |= a.kind == Kind::Update;
    }
  }
  require_memory(static_cast<double>(depend.slots()) * sizeof(int),
                 cat("checking ", schedule.name, " with ", count_text(schedule.placement.stages()),
                     " stages and ", count_text(schedule.microbatches), " microbatches"));
  position.assign(depend.slots(), -1);
  if (has_split) weight_position.assign(pair(schedule.placement.stages(), 0), -1);
}

bool check_shape(const Schedule& schedule, std::vector<Violation>& violations) {
  const Placement& placement = schedule.placement;
  const auto report = [&](std::string what) { violations.push_back({.what = std::move(what)}); };
  if (static_cast<std::size_t>(placement.ranks) != schedule.ranks.size())
    report(cat("the placement is over ", placement.ranks, " ranks but there are ",
               schedule.ranks.size(), " lists"));
  if (placement.stages() < 1 || schedule.microbatches < 1)
    report(cat("there are ", placement.stages(), " stages and ", schedule.microbatches,
               " microbatches; both must be 1 or more"));
  if (schedule.sequence_splits < 1 || schedule.microbatches % std::max(1, schedule.sequence_splits))
    report(cat(schedule.microbatches, " units do not divide into ", schedule.sequence_splits,
               " sequence splits a microbatch"));
  for (int stage = 0; stage < placement.stages(); ++stage) {
    std::vector<int> owners = placement.owners[static_cast<std::size_t>(stage)];
    const auto outside = [&](int rank) { return rank < 0 || rank >= placement.ranks; };
    if (owners.empty() || std::ranges::any_of(owners, outside))
      report(cat("stage ", stage, " is on no rank"));
    std::ranges::sort(owners);
    if (std::ranges::adjacent_find(owners) != owners.end())
      report(cat("two replicas of stage ", stage, " are on one rank"));
    if (schedule.sequence_splits > 1 && owners.size() > 1)
      report(cat("stage ", stage, " has replicas, which sequence splits do not go with"));
  }
  std::size_t actions = 0;
  for (const auto& list : schedule.ranks) actions += list.size();
  // Each stage does each microbatch, so far more of them than actions is a slip, and must not
  // decide how much memory the check takes.
  const auto forwards = static_cast<double>(placement.stages()) * schedule.microbatches;
  if (forwards > 64.0 * static_cast<double>(actions) + 1e6)
    report(cat(placement.stages(), " stages of ", schedule.microbatches, " microbatches need ",
               "that many forwards each, but there are only ", actions, " actions"));
  return violations.empty();
}

void check_places(Checks& checks) {
  for (std::size_t rank = 0; rank < checks.schedule.ranks.size(); ++rank) {
    const std::vector<Action>& actions = checks.schedule.ranks[rank];
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const Action& a = actions[i];
      const int at = static_cast<int>(i);
      std::string fault = misplacement(checks, static_cast<int>(rank), a);
      if (fault.empty() && has_microbatch(a.kind)) {
        int& entry = checks.entry(a);
        if (entry < 0) {
          entry = at;
        } else {
          fault = cat("is there twice: ", to_string(checks.action(static_cast<int>(rank), entry)),
                      " stands at position ", entry);
        }
      }
      if (!fault.empty()) {
        checks.well_placed = false;
        checks.report(static_cast<int>(rank), at, fault);
      }
      if (a.overlaps_next &&
          (i + 1 == actions.size() || !is_compute(a.kind) || !is_compute(actions[i + 1].kind)))
        checks.report(static_cast<int>(rank), at, "is overlapped with nothing that computes");
      if (a.overlaps_next && i + 1 < actions.size() && actions[i + 1].overlaps_next)
        checks.report(static_cast<int>(rank), at, "is one of three overlapped; only two can be");
    }
  }
}

void check_complete(Checks& checks) {
  const Schedule& schedule = checks.schedule;
  const Dependencies& depend = checks.depend;
  const auto missing = [&](Kind kind, int stage, int microbatch) {
    const Action action = {.kind = kind, .stage = stage, .microbatch = microbatch};
    checks.violations.push_back({.rank = depend.rank(stage, microbatch),
                                 .action = to_string(action),
                                 .what = "is missing"});
  };
  const auto absent = [&](Kind kind, int stage, int m) {
    return checks.position_of(kind, stage, m) < 0;
  };
  for (int stage = 0; stage < schedule.placement.stages(); ++stage) {
    for (int m = 0; m < schedule.microbatches; ++m) {
      const int rank = depend.rank(stage, m);
      if (absent(Kind::Forward, stage, m)) missing(Kind::Forward, stage, m);
      if (checks.has_backward) {
        const int backward = checks.position_of(Kind::Backward, stage, m);
        if (backward < 0) missing(Kind::Backward, stage, m);
        const bool split =
            backward >= 0 && checks.action(rank, backward).kind == Kind::BackwardInput;
        const int weight = checks.has_split ? checks.weight_position[checks.pair(stage, m)] : -1;
        if (split && weight < 0) missing(Kind::BackwardWeight, stage, m);
        if (!split && weight >= 0)
          checks.report(
              rank, weight,
              backward < 0 ? "its input half I is missing" : "its backward is whole (B) already");
      }
      if (!depend.transfers() || stage + 1 == schedule.placement.stages() ||
          depend.rank(stage + 1, m) == rank)
        continue;
      if (absent(Kind::SendForward, stage, m)) missing(Kind::SendForward, stage, m);
      if (absent(Kind::RecvForward, stage + 1, m)) missing(Kind::RecvForward, stage + 1, m);
      if (!checks.has_backward) continue;
      if (absent(Kind::SendBackward, stage + 1, m)) missing(Kind::SendBackward, stage + 1, m);
      if (absent(Kind::RecvBackward, stage, m)) missing(Kind::RecvBackward, stage, m);
    }
  }
}

}  // namespace headrace
