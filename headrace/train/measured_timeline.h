// The timeline of one step as its ranks have measured it.
#pragma once

#include <string>
#include <vector>

#include "headrace/timeline/timeline.h"
#include "headrace/transport/transport.h"

namespace headrace {

// Every rank gives its events; the result is the same on every rank.
Timeline gather_timeline(Transport& transport,
                         const std::vector<Event>& events,
                         const std::string& name);

}  // namespace headrace
