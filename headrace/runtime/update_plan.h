// What the updates of an asynchronous schedule mean for one rank, read off the schedule before it
// runs: with which version of a stage's weights each microbatch is computed, to which update it
// belongs, and whether an update must keep the weights before it.
//
//   const UpdatePlan plan(schedule, rank);
//   plan.version(stage, microbatch);    // by the updates of the stage since the schedule's start
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "headrace/schedule/schedule.h"
#include "headrace/schedule/versions.h"

namespace headrace {

class UpdatePlan {
 public:
  UpdatePlan(const Schedule& schedule, int rank);

  int version(int stage, int microbatch) const {
    return versions_[static_cast<std::size_t>(stage)].version[static_cast<std::size_t>(microbatch)];
  }
  // The update that a microbatch's gradients go into, the same on every stage.
  int update_of(int microbatch) const {
    const auto at = static_cast<std::size_t>(microbatch);
    return versions_.front().version[at] + versions_.front().staleness[at];
  }
  // Of each update, its microbatches.
  const std::map<int, std::vector<int>>& updates() const { return updates_; }
  // Whether forwards after a stage's update number `update`, from 0, want older weights.
  bool keeps(int stage, int update) const {
    return keeps_.at(stage)[static_cast<std::size_t>(update)];
  }

 private:
  std::vector<StageVersions> versions_;
  std::map<int, std::vector<int>> updates_;
  std::map<int, std::vector<bool>> keeps_;  // [stage of the rank][update]
};

}  // namespace headrace
