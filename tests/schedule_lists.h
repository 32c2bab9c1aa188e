// The schedules by what is promised of them, from the table of all that have a name: tests that
// take their lists from here run a new schedule without being told.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "headrace/plan/source.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

template <class Condition>
std::vector<std::string> schedules_where(const Condition& condition) {
  std::vector<std::string> names;
  for (const Generator& generator : named_schedules())
    if (condition(generator.name, generator.make({.ranks = 2, .microbatches = 8})))
      names.push_back(generator.name);
  return names;
}

inline bool updates_once(const Schedule& schedule) {
  return schedule.sequence_splits == 1 && !is_asynchronous(schedule);
}

inline bool has_copies(const Schedule& schedule) {
  return std::ranges::any_of(schedule.placement.owners,
                             [](const std::vector<int>& ranks) { return ranks.size() > 1; });
}

// The same as one process to the bit. `auto` is one of them: in training it keeps one copy.
inline std::vector<std::string> schedules_of_one_copy() {
  return schedules_where([](const std::string& name, const Schedule& schedule) {
    return updates_once(schedule) && (name == kSearched || !has_copies(schedule));
  });
}

// The same as one process that adds up in their order.
inline std::vector<std::string> schedules_of_several_copies() {
  return schedules_where([](const std::string& name, const Schedule& schedule) {
    return updates_once(schedule) && name != kSearched && has_copies(schedule);
  });
}

inline std::vector<std::string> asynchronous_schedules() {
  return schedules_where(
      [](const std::string&, const Schedule& schedule) { return is_asynchronous(schedule); });
}

}  // namespace headrace
