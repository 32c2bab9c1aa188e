#include "headrace/plan/source.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/plan/search/search.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/lower.h"

namespace headrace {

const std::vector<Generator>& named_schedules() {
  static const std::vector<Generator> schedules = [] {
    std::vector<Generator> all = generators();
    all.push_back({.name = std::string(kSearched),
                   .summary = "the best found for given costs and memory, synchronous",
                   .constraint = "any ranks, any microbatches; uses costs and memory_limit (none "
                                 "unless given); stages_per_rank 1 unless given",
                   .any_stages = true,
                   .order = [](const GeneratorOptions& options) {
                     return Made{.schedule = search(options), .refusal = {}};
                   }});
    return all;
  }();
  return schedules;
}

Schedule make_schedule(std::string_view name, const GeneratorOptions& options) {
  return find_generator(named_schedules(), name).make(options);
}

bool is_schedule_file(const std::string& name) {
  for (const Generator& generator : named_schedules())
    if (generator.name == name) return false;
  std::error_code unknown;
  return name.find_first_of("/.") != std::string::npos || std::filesystem::exists(name, unknown);
}

Schedule read_schedule(const std::string& file) {
  return parse_csv(read_file(file), file);
}

int ScheduleSource::stages_per_rank() const {
  if (file) return std::max(1, file->placement.stages() / file->placement.ranks);
  return find_generator(named_schedules(), name).stages_per_rank;
}

ScheduleSource schedule_source(const std::string& name) {
  ScheduleSource source{.name = name, .file = {}};
  if (!is_schedule_file(name)) {
    find_generator(named_schedules(), name);
    return source;
  }
  try {
    source.file = read_schedule(name);
    require_valid(*source.file);
  } catch (const Error& error) {
    throw UsageError(cat("schedule: ", error.what()));
  }
  return source;
}

Schedule proved_and_lowered(const Schedule& schedule) {
  require_valid(schedule);
  Schedule lowered = lower(schedule);
  require_valid(lowered);
  return lowered;
}

}  // namespace headrace
