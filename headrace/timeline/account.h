// What an event's time was spent on: said here alone, for metrics, the table at a run's end and
// whoever compares costs.
//
//   const Spent spent = spent_on(event);
//   seconds[spent.activity] += spent.work;
#pragma once

#include <cstdint>

#include "headrace/timeline/timeline.h"

namespace headrace {

enum class Activity : std::uint8_t {
  Forward,
  Backward,  // of both kinds of gradients
  BackwardInput,
  BackwardWeight,
  Transfer,  // sending, and posting a receive
  Reduce,    // gradients over replicas and other owners
  Update
};

struct Spent {
  Activity activity = Activity::Forward;  // of `work`
  double work = 0;
  double transfer = 0;  // the action's message was on its way
  double wait = 0;      // for another rank
};

Spent spent_on(const Event& event);

}  // namespace headrace
