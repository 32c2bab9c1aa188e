// Which weights an asynchronous schedule computes with: read off its own Update actions.
//
// Where every backward has an update of its own (PipeDream), a microbatch runs on a stage, forward
// and backward, with the weights in force when its forward started there. Where several backwards
// share an update (PipeDream-2BW), the microbatches of update t run on every stage with the version
// before the newest that all of them could have, max(0, t-1): two versions are enough.
#pragma once

#include <vector>

#include "headrace/schedule/schedule.h"

namespace headrace {

struct StageVersions {
  // Of each microbatch: the number of updates behind its weights; and the updates done in between
  // when its own is applied.
  std::vector<int> version;
  std::vector<int> staleness;
  int stored = 1;  // the most versions held at once, the newest included
};

// One a stage (for a stage with replicas, over all of them). A schedule without updates steps once,
// at its end: version and staleness 0 throughout.
std::vector<StageVersions> weight_versions(const Schedule& schedule);

}  // namespace headrace
