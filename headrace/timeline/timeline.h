// A Timeline says what happened when, on which rank, for which action. It comes out of the
// simulator and the executor alike, so that drawing, metrics, trace files and
// predicted-against-measured are written once.
//
// Times are in seconds when measured and in the costs' unit when simulated. An event's work runs
// from start + wait to end: `wait` is the time the action stood waiting for another rank,
// `transfer` the part of the work that was moving data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/schedule/action.h"

namespace headrace {

struct Event {
  Action action;
  double start = 0;
  double end = 0;
  double wait = 0;      // of end - start, at its beginning: blocked until the other rank had sent
  double transfer = 0;  // of end - start, after the wait: the message was on its way
};

// When the action itself begins: it has waited, and, if it computes, its message has come.
inline double work_begin(const Event& event) {
  return event.start + event.wait + (is_compute(event.action.kind) ? event.transfer : 0);
}

struct Timeline {
  std::string name;
  bool measured = false;                  // seconds of a real run; else the costs' unit
  std::vector<std::vector<Event>> ranks;  // each ascending in start, without overlap
  double clock_error = 0;                 // how far the clocks of two ranks may be apart
};

}  // namespace headrace
