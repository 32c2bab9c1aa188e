// Which schedules a command is about: names or files, sizes and costs from the flags, comma lists
// expanded. Shared by show, simulate and export.
#pragma once

#include <string>
#include <vector>

#include "headrace/schedule/costs.h"
#include "headrace/schedule/schedule.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace headrace {

struct CaseFlags {
  std::vector<std::string> names;
  std::string ranks = "4";
  std::string microbatches = "8";
  std::string stages_per_rank = "0";
  std::string costs = "1,1,1";
  std::string activation_memory = "1,0,-1";
  std::string memory_limit;
  int sequence_splits = 0;
  int group_size = 0;
  Costs times;  // what has a flag of its own: latency, bandwidth, …

  std::vector<CLI::Option*> sizes;  // those that a file decides by itself
};

// Adds the positional NAME|FILE and the flags.
void add_case_flags(CLI::App& command, CaseFlags& flags);

// Costs as the flags give them: three numbers, or a file with values by stage.
Costs costs_of(const CaseFlags& flags);

// The schedules. Combinations that a schedule does not take are left out with a word on stderr, as
// long as there are others. Throws UsageError.
std::vector<Schedule> cases_of(const CaseFlags& flags, const Costs& costs);

// "# headrace 0.1.0 simulate", and the options.
std::string heading(const std::string& command, const std::string& options);

// A word for people on stderr.
void note(const std::string& text);

}  // namespace headrace
