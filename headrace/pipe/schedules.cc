#include "headrace/pipe/schedules.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"

namespace headrace {
namespace {

Schedule sound(const Schedule& schedule) {
  require_valid(schedule);
  Schedule lowered = lower(schedule);
  require_valid(lowered);
  return lowered;
}

}  // namespace

Schedule pipe_step(const std::string& name, int ranks, int microbatches) {
  const Schedule whole = generate(name, {.ranks = ranks, .microbatches = microbatches});
  check_usage(!is_asynchronous(whole) && whole.sequence_splits == 1, "Pipe: schedule '", name,
              "' is asynchronous or splits sequences; use one that does not");
  return sound(whole);
}

Schedule pipe_forward(const Placement& placement, int microbatches) {
  return sound(forward_only(placement, microbatches));
}

Schedule pipe_backward(const Placement& placement, int microbatches) {
  Schedule both = forward_only(placement, microbatches);
  for (auto& list : both.ranks) {
    std::vector<Action> backwards(list.rbegin(), list.rend());
    std::ranges::stable_sort(backwards, [](const Action& a, const Action& b) {
      return std::pair(-a.stage, a.microbatch) < std::pair(-b.stage, b.microbatch);
    });
    for (Action& action : backwards) {
      action.kind = Kind::Backward;
      list.push_back(action);
    }
  }
  Schedule lowered = sound(both);
  for (auto& list : lowered.ranks)
    std::erase_if(list, [](const Action& a) {
      return a.kind == Kind::Forward || a.kind == Kind::SendForward || a.kind == Kind::RecvForward;
    });
  return lowered;
}

}  // namespace headrace
