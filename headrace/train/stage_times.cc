#include "headrace/train/stage_times.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "headrace/transport/all_gather.h"

namespace headrace {

void StageClock::add(int rank,
                     const std::vector<Event>& events,
                     double makespan,
                     double reduce_seconds,
                     double update_seconds) {
  for (const Event& event : events) {
    StageSeconds& times = stages_[event.action.stage];
    const double work = event.end - event.start - event.wait - event.transfer;
    if (event.action.kind == Kind::Update)
      times.update += work;
    else if (event.action.kind == Kind::ReduceGradients)
      times.reduce += work;
    else if (!is_compute(event.action.kind))
      times.transfer += work;
    else if (event.action.kind == Kind::Forward)
      times.forward += work;
    else
      times.backward += work;
    times.transfer += event.transfer;
    times.waiting += event.wait;
  }
  for (auto& [stage, times] : stages_) {
    times.rank = rank;
    times.makespan += makespan;
    times.reduce += reduce_seconds / static_cast<double>(stages_.size());
    times.update += update_seconds / static_cast<double>(stages_.size());
  }
}

std::vector<StageSeconds> StageClock::gather(Transport& transport,
                                             std::int64_t peak_memory,
                                             std::int64_t step) const {
  constexpr std::size_t kNumbers = 9;
  std::vector<double> mine;
  for (const auto& [stage, t] : stages_) {
    const std::vector<double> numbers = {static_cast<double>(stage),
                                         t.forward,
                                         t.backward,
                                         t.transfer,
                                         t.waiting,
                                         t.reduce,
                                         t.update,
                                         t.makespan,
                                         static_cast<double>(peak_memory)};
    mine.insert(mine.end(), numbers.begin(), numbers.end());
  }
  std::vector<StageSeconds> all;
  const auto lists = all_gather(transport, mine, step);
  for (std::size_t rank = 0; rank < lists.size(); ++rank) {
    for (std::size_t i = 0; i + kNumbers <= lists[rank].size(); i += kNumbers) {
      const double* n = &lists[rank][i];
      all.push_back({static_cast<int>(n[0]), static_cast<int>(rank), n[1], n[2], n[3], n[4], n[5],
                     n[6], n[7], static_cast<std::int64_t>(n[8])});
    }
  }
  std::ranges::stable_sort(all, {}, &StageSeconds::stage);
  return all;
}

}  // namespace headrace
