// headrace check FILE: is this schedule sound?
#include <cstddef>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

std::string numbers(const std::vector<int>& values) {
  std::vector<std::string> texts;
  for (const int value : values) texts.push_back(std::to_string(value));
  return join_text(texts, " ");
}

// Whether it is sound.
bool check_file(const std::string& path, int sequence_splits) {
  Schedule schedule = parse_csv(read_file(path), path);
  schedule.sequence_splits = sequence_splits;
  const Validation validation = validate(schedule);
  for (const Violation& violation : validation.violations)
    std::cout << to_string(violation) << "\n";
  std::size_t actions = 0;
  for (const auto& list : schedule.ranks) actions += list.size();
  std::cout << path << ": ";
  if (!validation.violations.empty()) {
    std::cout << "NOT SOUND: " << validation.violations.size() << " violation"
              << (validation.violations.size() > 1 ? "s" : "") << "\n";
    return false;
  }
  std::cout << "sound: " << schedule.ranks.size() << " ranks, " << schedule.placement.stages()
            << " stages, " << schedule.microbatches << " microbatches, " << actions
            << " actions; peak activations by rank " << numbers(validation.peak_activations);
  if (has_transfers(schedule))
    std::cout << "; peak receives by rank " << numbers(validation.peak_receives)
              << "; no deadlock even if sends last until received";
  std::cout << "\n";
  return true;
}

}  // namespace

void add_check(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("check", "Prove a schedule file sound, or say all that is wrong");
  const auto files = std::make_shared<std::vector<std::string>>();
  command->add_option("file", *files, "schedule in PyTorch's CSV form, a row a rank")
      ->required()
      ->type_name("FILE");
  const auto splits = std::make_shared<int>(1);
  command
      ->add_option("--sequence-splits", *splits,
                   "the file's microbatches are this many splits of each sequence (seq1f1b)")
      ->capture_default_str();
  command->callback([files, splits] {
    bool sound = true;
    for (const std::string& path : *files) sound = check_file(path, *splits) && sound;
    if (!sound) throw CLI::RuntimeError(1);
  });
}

}  // namespace headrace
