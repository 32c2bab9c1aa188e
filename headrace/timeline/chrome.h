// A timeline as a Chrome trace, which https://ui.perfetto.dev and chrome://tracing open: a process
// a rank, a slice an action with its wait and its transfer apart, an arrow for each message that
// changes ranks.
#pragma once

#include <string>

#include "headrace/timeline/timeline.h"

namespace headrace {

// Traces count in microseconds: a measured second is a million, a unit of simulated time a
// thousand.
std::string chrome_trace(const Timeline& timeline);

// The same into a file, written whole or not at all. Throws Error.
void write_chrome_trace(const Timeline& timeline, const std::string& path);

}  // namespace headrace
