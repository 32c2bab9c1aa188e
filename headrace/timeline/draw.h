// A timeline drawn for a terminal: a lane a rank, time from left to right.
//
//   rank 0 |F0 F1 F2 F3  .  .  .  .  .  .  B0----F4 …
//
// A cell opens with what is done (F, B, I, W, U; R reduces) and the microbatch, with the stage in
// front where ranks hold several; '.' is idle, '~' a message on its way. Without colour nothing is
// lost. Where not all fits, the drawing is cut, and a last line says so.
#pragma once

#include <string>

#include "headrace/timeline/timeline.h"

namespace headrace {

struct DrawOptions {
  int width = 100;      // columns
  int lanes = 64;       // ranks shown at most
  bool colour = false;  // ANSI colours: for a terminal only
};

std::string draw(const Timeline& timeline, const DrawOptions& options = {});

}  // namespace headrace
