#include "headrace/train/stage_times.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "headrace/timeline/account.h"
#include "headrace/transport/all_gather.h"

namespace headrace {

void StageClock::add(int rank, const std::vector<Event>& events, double makespan) {
  double reduced = 0, updated = 0;  // for all stages
  for (const Event& event : events) {
    const Spent spent = spent_on(event);
    const bool of_all = event.action.microbatch == kOfAllStages;
    StageSeconds& times = stages_[event.action.stage];
    times.transfer += spent.transfer;
    times.waiting += spent.wait;
    switch (spent.activity) {
      case Activity::Forward:
        times.forward += spent.work;
        break;
      case Activity::Backward:
      case Activity::BackwardInput:
      case Activity::BackwardWeight:
        times.backward += spent.work;
        break;
      case Activity::Transfer:
        times.transfer += spent.work;
        break;
      case Activity::Reduce:
        (of_all ? reduced : times.reduce) += spent.work;
        break;
      case Activity::Update:
        (of_all ? updated : times.update) += spent.work;
        break;
    }
  }
  const auto stages = static_cast<double>(stages_.size());
  for (auto& [stage, times] : stages_) {
    times.stage = stage;
    times.rank = rank;
    times.makespan += makespan;
    times.reduce += reduced / stages;
    times.update += updated / stages;
  }
}

std::vector<StageSeconds> StageClock::gather(Transport& transport,
                                             std::int64_t peak_memory,
                                             std::int64_t step) const {
  std::vector<StageSeconds> mine;
  for (const auto& [stage, times] : stages_) {
    mine.push_back(times);
    mine.back().peak_memory = peak_memory;
  }
  std::vector<StageSeconds> all;
  for (const auto& theirs : all_gather_of(transport, mine, step))
    all.insert(all.end(), theirs.begin(), theirs.end());
  std::ranges::stable_sort(all, {}, &StageSeconds::stage);
  return all;
}

}  // namespace headrace
