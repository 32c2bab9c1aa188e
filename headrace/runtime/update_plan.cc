#include "headrace/runtime/update_plan.h"

namespace headrace {

UpdatePlan::UpdatePlan(const Schedule& schedule, int rank) : versions_(weight_versions(schedule)) {
  for (int m = 0; m < schedule.microbatches; ++m) updates_[update_of(m)].push_back(m);
  std::map<int, int> forwards;  // done, by stage; they come in ascending order
  for (const Action& action : schedule.ranks[static_cast<std::size_t>(rank)]) {
    if (action.kind == Kind::Forward) forwards[action.stage] = action.microbatch + 1;
    if (action.kind != Kind::Update) continue;
    std::vector<bool>& keeps = keeps_[action.stage];
    const int before = static_cast<int>(keeps.size());
    const int next = forwards[action.stage];
    keeps.push_back(next < schedule.microbatches && version(action.stage, next) <= before);
  }
}

}  // namespace headrace
