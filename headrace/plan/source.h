// The one way from what a user names (a schedule of the table, `auto`, or a file of the text form)
// to a Schedule.
//
//   Schedule s = make_schedule("zb-v", {.ranks = 4, .microbatches = 8});   // or "auto"
//   Schedule mine = read_schedule("mine.csv");                             // as it stands
//   ScheduleSource source = schedule_source("mine.csv");                   // proved sound
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

inline constexpr std::string_view kSearched = "auto";

// The schedules that have a name: those of generators.h, and `auto`.
const std::vector<Generator>& named_schedules();
// Throws UsageError as Generator::make and find_generator do.
Schedule make_schedule(std::string_view name, const GeneratorOptions& options);

// Whether this is not a schedule's name but a file: it has a '/' or a '.' in it, or is there.
bool is_schedule_file(const std::string& name);
// Throws Error that names the file and the place in it.
Schedule read_schedule(const std::string& file);

// What a plan takes its schedule from.
struct ScheduleSource {
  std::string name;              // of the schedule, or of its file
  std::optional<Schedule> file;  // what the file holds, proved sound

  bool is_searched() const { return !file && name == kSearched; }
  // Of a rank, unless others are asked for.
  int stages_per_rank() const;
};

// Throws UsageError where nothing is called so, and for a file that cannot be read or is not sound.
ScheduleSource schedule_source(const std::string& name);

// Proved sound, lowered, and proved again. Throws Error where it is not sound.
Schedule proved_and_lowered(const Schedule& schedule);

}  // namespace headrace
