// headrace export NAME: a schedule as PyTorch's CSV.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/cases.h"
#include "cli/commands.h"
#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

struct ExportFlags {
  CaseFlags cases;
  bool lowered = false;
  std::string output;
};

void run(const ExportFlags& flags) {
  const std::vector<Schedule> schedules = cases_of(flags.cases, costs_of(flags.cases));
  check_usage(schedules.size() == 1, "export takes one schedule at a time; ", schedules.size(),
              " are given");
  // Others may put sends and receives of a pair of ranks on one stream: see lower.h.
  const Schedule schedule = flags.lowered ? lower(schedules[0], Receives::Paired) : schedules[0];
  require_valid(schedule);
  if (schedule.sequence_splits > 1)
    note(cat("the file does not say that its microbatches are splits of sequences: check it with ",
             "--sequence-splits ", schedule.sequence_splits));
  if (flags.output.empty()) {
    std::cout << to_csv(schedule);
  } else {
    write_file(flags.output, to_csv(schedule));
  }
}

}  // namespace

void add_export(CLI::App& program) {
  CLI::App* command = program.add_subcommand("export", "Write a schedule as PyTorch's CSV");
  const auto flags = std::make_shared<ExportFlags>();
  add_case_flags(*command, flags->cases);
  command->get_option("schedule")->required();
  command->add_flag("--lowered", flags->lowered, "with sends, receives and gradient reductions");
  command->add_option("--output", flags->output, "write there instead of printing")
      ->type_name("FILE");
  command->callback([flags] { run(*flags); });
}

}  // namespace headrace
