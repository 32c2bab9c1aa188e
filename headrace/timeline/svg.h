// A timeline as an SVG picture, fit for a paper: a lane a rank, a box an action with its microbatch
// number, coloured by kind (forward, backward, its halves) and shaded by which of its rank's stages
// it is on; bubbles are hatched; a legend and a time axis below.
#pragma once

#include <string>

#include "headrace/timeline/timeline.h"

namespace headrace {

std::string svg(const Timeline& timeline);

}  // namespace headrace
