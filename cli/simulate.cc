// headrace simulate NAME|FILE…: how long a step takes and what it holds, on paper; comma lists make
// one table.
#include "headrace/simulate/simulate.h"

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/cases.h"
#include "cli/commands.h"
#include "headrace/base/error.h"
#include "headrace/base/table.h"
#include "headrace/base/text.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/costs.h"
#include "headrace/schedule/schedule.h"
#include "headrace/timeline/chrome.h"
#include "headrace/timeline/metrics.h"

namespace headrace {
namespace {

struct SimulateFlags {
  CaseFlags cases;
  std::string format = "text";
  std::string timeline;
};

void warn_over_limit(const Schedule& schedule,
                     const Simulation& simulation,
                     const CaseFlags& flags) {
  if (flags.memory_limit.empty()) return;
  const std::vector<std::string> limits = split_text(flags.memory_limit, ',');
  for (std::size_t rank = 0; rank < simulation.peak_memory.size(); ++rank) {
    const double limit = parse_number(limits[std::min(rank, limits.size() - 1)], "--memory-limit");
    if (simulation.peak_memory[rank] <= limit * (1 + 1e-9)) continue;
    note(cat("warning: ", schedule.name, " holds ", simulation.peak_memory[rank], " on rank ", rank,
             ", over the memory limit of ", limit));
    return;
  }
}

void run(const SimulateFlags& flags) {
  const Format format = parse_format(flags.format);
  const Costs costs = costs_of(flags.cases);
  const std::vector<Schedule> schedules = cases_of(flags.cases, costs);
  check_usage(flags.timeline.empty() || schedules.size() == 1,
              "--timeline takes one case at a time; ", schedules.size(), " are given");
  Table table({{.name = "schedule"},
               {.name = "ranks"},
               {.name = "stages_per_rank"},
               {.name = "microbatches"},
               {.name = "makespan"},
               {.name = "cost"},
               {.name = "ideal"},
               {.name = "bubble", .digits = 4},
               {.name = "bubble_cost", .digits = 4},
               {.name = "peak_activations"}});
  for (const Schedule& schedule : schedules) {
    require_valid(schedule);
    const Simulation simulation = simulate(schedule, costs);
    const Metrics metrics = measure(simulation.timeline);
    if (!flags.timeline.empty()) write_chrome_trace(simulation.timeline, flags.timeline);
    warn_over_limit(schedule, simulation, flags.cases);
    const auto stages_per_rank = static_cast<std::int64_t>(schedule.placement.stages_of(0).size());
    table.add({schedule.name, static_cast<std::int64_t>(schedule.placement.ranks), stages_per_rank,
               static_cast<std::int64_t>(schedule.microbatches / schedule.sequence_splits),
               metrics.makespan, metrics.cost, metrics.ideal, metrics.bubble, metrics.bubble_cost,
               simulation.peak_memory});
  }
  if (format == Format::Text)
    std::cout << heading("simulate",
                         cat("costs F,B,W ", flags.cases.costs, ", latency ", costs.latency,
                             ", activation memory F,B,W ", flags.cases.activation_memory));
  std::cout << table.print(format);
}

}  // namespace

void add_simulate(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("simulate", "Time and memory of schedules at given costs, as a table");
  const auto flags = std::make_shared<SimulateFlags>();
  add_case_flags(*command, flags->cases);
  command->get_option("schedule")->required();
  command->add_option("--format", flags->format, "text, md, csv or json")->capture_default_str();
  command->add_option("--timeline", flags->timeline, "also write a trace that Perfetto opens")
      ->type_name("FILE");
  command->callback([flags] { run(*flags); });
}

}  // namespace headrace
