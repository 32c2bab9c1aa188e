// Where each stage's time went, added up over the steps of a run: for the table at its end.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "headrace/timeline/timeline.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct StageSeconds {
  int stage = 0;
  int rank = 0;
  double forward = 0;
  double backward = 0;
  double transfer = 0;
  double waiting = 0;
  double reduce = 0;  // gradients over replicas and other owners
  double update = 0;
  double makespan = 0;           // of all steps' schedules
  std::int64_t peak_memory = 0;  // bytes of tensors, of the stage's rank
};

// In place of a microbatch, in events of a rank's reduction and update: they are for all its stages.
constexpr int kOfAllStages = -2;

class StageClock {
 public:
  // One step's events on this rank, and how long the whole pipeline took for it. What was reduced
  // and updated for all of the rank's stages together, after their actions, is shared out evenly.
  void add(int rank, const std::vector<Event>& events, double makespan);
  // Every rank's stages, by stage and then by replica; the same on every rank.
  std::vector<StageSeconds> gather(Transport& transport,
                                   std::int64_t peak_memory,
                                   std::int64_t step) const;

 private:
  std::map<int, StageSeconds> stages_;
};

}  // namespace headrace
