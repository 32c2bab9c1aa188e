#include "headrace/pipe/backward_only.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "headrace/plan/source.h"
#include "headrace/schedule/generators/generators.h"

namespace headrace {
Schedule backward_only(const Placement& placement, int microbatches) {
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
  Schedule lowered = proved_and_lowered(both);
  for (auto& list : lowered.ranks)
    std::erase_if(list, [](const Action& a) {
      return a.kind == Kind::Forward || a.kind == Kind::SendForward || a.kind == Kind::RecvForward;
    });
  return lowered;
}

}  // namespace headrace
