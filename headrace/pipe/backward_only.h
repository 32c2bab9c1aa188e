// Backwards alone, proved and lowered: what runs after a forward that was a schedule of its own.
#pragma once

#include "headrace/schedule/schedule.h"

namespace headrace {

// The actions of forward_only() the other way round, but microbatches ascending.
Schedule backward_only(const Placement& placement, int microbatches);

}  // namespace headrace
