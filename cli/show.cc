// headrace show [NAME|FILE]: a schedule drawn, with its bubble and its memory; without a name, the
// list of schedules.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cases.h"
#include "cli/commands.h"
#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/table.h"
#include "headrace/base/text.h"
#include "headrace/plan/source.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/costs.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"
#include "headrace/schedule/versions.h"
#include "headrace/simulate/simulate.h"
#include "headrace/timeline/draw.h"
#include "headrace/timeline/metrics.h"
#include "headrace/timeline/svg.h"

namespace headrace {
namespace {

struct ShowFlags {
  CaseFlags cases;
  std::string format = "text";
  std::string svg;
  int width = 0;
  bool weights = false;
};

int terminal_width() {
  winsize size{};
  if (isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return size.ws_col;
  return 120;
}

bool colour_wanted() {
  return isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
}

void list_schedules(Format format) {
  Table table({{.name = "schedule"}, {.name = "what it is"}, {.name = "sizes it takes"}});
  for (const Generator& generator : named_schedules())
    table.add({generator.name, generator.summary, generator.constraint});
  std::cout << table.print(format);
}

Table ranks_table(const Schedule& schedule,
                  const Simulation& simulation,
                  const Metrics& metrics,
                  const Validation& validation) {
  const bool transfers = has_transfers(schedule);
  std::vector<Column> columns = {{.name = "rank"},
                                 {.name = "stages"},
                                 {.name = "peak_activations"},
                                 {.name = "peak_memory"},
                                 {.name = "compute"},
                                 {.name = "idle"},
                                 {.name = "bubble", .digits = 4}};
  if (transfers) columns.push_back({.name = "peak_receives"});
  Table table(columns);
  for (std::size_t rank = 0; rank < metrics.ranks.size(); ++rank) {
    std::vector<std::string> stages;
    for (const int stage : schedule.placement.stages_of(static_cast<int>(rank)))
      stages.push_back(std::to_string(stage));
    const RankMetrics& own = metrics.ranks[rank];
    const double compute = own.forward + own.backward + own.backward_input + own.backward_weight;
    std::vector<Cell> row = {static_cast<std::int64_t>(rank),
                             join_text(stages, " "),
                             static_cast<std::int64_t>(validation.peak_activations[rank]),
                             simulation.peak_memory[rank],
                             compute,
                             metrics.makespan - compute,
                             own.bubble};
    if (transfers) row.emplace_back(static_cast<std::int64_t>(validation.peak_receives[rank]));
    table.add(std::move(row));
  }
  return table;
}

// Of an asynchronous schedule: with which weights each microbatch is computed.
Table weights_table(const Schedule& schedule) {
  Table table({{.name = "stage"},
               {.name = "stored_versions"},
               {.name = "version_of_each_microbatch"},
               {.name = "staleness_of_each_microbatch"}});
  const std::vector<StageVersions> stages = weight_versions(schedule);
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const StageVersions& own = stages[stage];
    table.add({static_cast<std::int64_t>(stage), static_cast<std::int64_t>(own.stored),
               std::vector<double>(own.version.begin(), own.version.end()),
               std::vector<double>(own.staleness.begin(), own.staleness.end())});
  }
  return table;
}

void show(const Schedule& schedule, const ShowFlags& flags, const Costs& costs) {
  const Validation validation = validate(schedule);
  for (const Violation& violation : validation.violations)
    std::cout << to_string(violation) << "\n";
  check(validation.violations.empty(), "schedule ", schedule.name,
        " is not sound: ", validation.violations.size(), " violations");
  const Simulation simulation = simulate(schedule, costs);
  const Metrics metrics = measure(simulation.timeline);
  if (!flags.svg.empty()) write_file(flags.svg, svg(simulation.timeline));
  const Format format = parse_format(flags.format);
  const Table table = flags.weights ? weights_table(schedule)
                                    : ranks_table(schedule, simulation, metrics, validation);
  if (format != Format::Text) {
    std::cout << table.print(format);
    return;
  }
  std::cout << heading(
      "show " + schedule.name,
      cat("ranks ", schedule.placement.ranks, ", stages ", schedule.placement.stages(),
          ", microbatches ", schedule.microbatches, ", costs F,B,W ", flags.cases.costs));
  std::cout << draw(simulation.timeline, {.width = flags.width > 0 ? flags.width : terminal_width(),
                                          .colour = colour_wanted()})
            << "\n"
            << table.print(format) << "\nsound: makespan " << metrics.makespan
            << ", of which compute " << metrics.ideal << ": bubble "
            << fixed_text(100 * metrics.bubble, 1) << "%";
  if (metrics.cost != metrics.makespan)
    std::cout << "; longest rank " << metrics.cost << ": bubble "
              << fixed_text(100 * metrics.bubble_cost, 1)
              << "% if nothing has to wait for all ranks";
  std::cout << "\n";
  if (is_asynchronous(schedule) && !flags.weights)
    std::cout
        << "\nasynchronous; version: updates behind a microbatch's weights; staleness: updates "
           "done before its own\n"
        << weights_table(schedule).print(format);
}

}  // namespace

void add_show(CLI::App& program) {
  CLI::App* command = program.add_subcommand(
      "show", "Draw a schedule, with its bubble and its memory; without a name, list them all");
  const auto flags = std::make_shared<ShowFlags>();
  add_case_flags(*command, flags->cases);
  command->add_option("--format", flags->format, "text, md, csv or json (text draws)")
      ->capture_default_str();
  command->add_option("--svg", flags->svg, "also write a picture")->type_name("FILE");
  command->add_option("--width", flags->width, "columns of the drawing; 0: the terminal's, or 120");
  command->add_flag(
      "--weights", flags->weights,
      "instead of ranks, stages: the version and staleness of each microbatch's weights");
  command->callback([flags] {
    if (flags->cases.names.empty()) {
      list_schedules(parse_format(flags->format));
      return;
    }
    const Costs costs = costs_of(flags->cases);
    const std::vector<Schedule> schedules = cases_of(flags->cases, costs);
    check_usage(schedules.size() == 1 || (flags->svg.empty() && flags->format == "text"),
                "--svg and --format take one schedule at a time; ", schedules.size(), " are given");
    for (const Schedule& schedule : schedules) show(schedule, *flags, costs);
  });
}

}  // namespace headrace
