#include "headrace/schedule/versions.h"

#include <algorithm>
#include <map>
#include <utility>

namespace headrace {
namespace {

bool ends_backward(Kind kind) {
  return kind == Kind::Backward || kind == Kind::BackwardWeight;
}

// Backwards that the fullest update of a list gathers: 1 in PipeDream.
int largest_update(const std::vector<Action>& list) {
  std::map<int, int> open;  // by stage
  int largest = 0;
  for (const Action& action : list) {
    if (ends_backward(action.kind)) ++open[action.stage];
    if (action.kind == Kind::Update)
      largest = std::max(largest, std::exchange(open[action.stage], 0));
  }
  return largest;
}

// Walks one rank's list twice: first which update each microbatch belongs to, then what is held.
class Walk {
 public:
  Walk(std::vector<StageVersions>& stages, bool gathered) : stages_(stages), gathered_(gathered) {}

  void assign(const std::vector<Action>& list) {
    std::map<int, int> updates;
    for (const Action& action : list) {
      const auto m = static_cast<std::size_t>(action.microbatch);
      StageVersions& stage = stages_[static_cast<std::size_t>(action.stage)];
      const int done = updates[action.stage];
      if (action.kind == Kind::Update) ++updates[action.stage];
      if (action.kind == Kind::Forward && !gathered_) stage.version[m] = done;
      if (ends_backward(action.kind) && gathered_) stage.version[m] = std::max(0, done - 1);
      if (ends_backward(action.kind)) stage.staleness[m] = done - stage.version[m];
    }
  }

  void count_stored(const std::vector<Action>& list) {
    std::map<int, int> updates;
    std::map<int, std::map<int, int>> held;  // stage → version → microbatches in flight
    for (const Action& action : list) {
      StageVersions& stage = stages_[static_cast<std::size_t>(action.stage)];
      auto& versions = held[action.stage];
      if (action.kind == Kind::Update) ++updates[action.stage];
      if (action.kind == Kind::Forward)
        ++versions[stage.version[static_cast<std::size_t>(action.microbatch)]];
      const int newest = updates[action.stage];
      const int count = static_cast<int>(versions.size()) + (versions.contains(newest) ? 0 : 1);
      stage.stored = std::max(stage.stored, count);
      if (ends_backward(action.kind)) {
        const auto version =
            versions.find(stage.version[static_cast<std::size_t>(action.microbatch)]);
        if (--version->second == 0) versions.erase(version);
      }
    }
  }

 private:
  std::vector<StageVersions>& stages_;
  bool gathered_;
};

}  // namespace

std::vector<StageVersions> weight_versions(const Schedule& schedule) {
  const auto microbatches = static_cast<std::size_t>(schedule.microbatches);
  std::vector<StageVersions> stages(static_cast<std::size_t>(schedule.placement.stages()));
  for (StageVersions& stage : stages) {
    stage.version.assign(microbatches, 0);
    stage.staleness.assign(microbatches, 0);
  }
  int largest = 0;
  for (const auto& list : schedule.ranks) largest = std::max(largest, largest_update(list));
  Walk walk(stages, largest > 1);
  for (const auto& list : schedule.ranks) walk.assign(list);
  for (const auto& list : schedule.ranks) walk.count_stored(list);
  return stages;
}

}  // namespace headrace
