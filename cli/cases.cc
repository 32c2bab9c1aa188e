#include "cli/cases.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/costs_file.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/plan/source.h"
#include "headrace/schedule/costs.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

bool is_known(const std::string& name) {
  for (const Generator& generator : named_schedules()) {
    if (generator.name == name) return true;
  }
  return false;
}

std::vector<double> parse_numbers(const std::string& text, const std::string& what) {
  std::vector<double> values;
  for (const std::string& part : split_text(text, ',')) {
    const std::string number = cat(what, " ", text, ": number ", values.size() + 1);
    check_usage(!trim(part).empty(), number, " is missing");
    values.push_back(parse_number(part, number));
  }
  return values;
}

// Whether `--costs` is a file: what exists as one, or cannot be meant as numbers with commas.
bool is_costs_file(const std::string& text) {
  if (text.find_first_not_of("0123456789.,+-eE ") == std::string::npos) return false;
  return text.find(',') == std::string::npos || std::filesystem::exists(text);
}

std::vector<double> three_numbers(const std::string& text, const std::string& what) {
  std::vector<double> values = parse_numbers(text, what);
  check_usage(values.size() == 3, what, " is '", text,
              "'; it must be three numbers with commas between: forward, input gradient, weight "
              "gradient");
  return values;
}

}  // namespace

void add_case_flags(CLI::App& command, CaseFlags& flags) {
  command
      .add_option("schedule", flags.names,
                  "names (see `headrace show`) or CSV files; several with commas between")
      ->delimiter(',')
      ->type_name("NAME|FILE");
  const auto text = [&](const char* name, std::string& value, const char* help) {
    return command.add_option(name, value, help)->capture_default_str();
  };
  flags.sizes = {
      text("--ranks", flags.ranks, "ranks, or a list"),
      text("--microbatches", flags.microbatches, "microbatches in a global batch, or a list"),
      text("--stages-per-rank", flags.stages_per_rank,
           "stages on a rank, or a list; 0: the schedule's own number"),
      command.add_option(
          "--group-size", flags.group_size,
          "microbatches of a turn (gis) or an update (pipedream-2bw), pipelines (chimera); "
          "0: the schedule's own number"),
      command.add_option("--memory-limit", flags.memory_limit,
                         "most activation memory of a rank, or a list by rank, in the unit of "
                         "--activation-memory: for schedules that fit themselves to it"),
  };
  command.add_option("--sequence-splits", flags.sequence_splits,
                     "splits of each sequence: of seq1f1b, or of what a file holds; 0: the "
                     "schedule's own number, in a file 1");
  text("--costs", flags.costs,
       "F,B,W: times of a stage's forward, input gradient and weight gradient in any unit; or a "
       "TOML or JSON file with values by stage");
  text("--activation-memory", flags.activation_memory,
       "F,B,W: what each adds to its rank's activation memory");
  const auto number = [&](const char* name, double& value, const char* help) {
    command.add_option(name, value, help)->capture_default_str();
  };
  number("--latency", flags.times.latency, "time of a transfer between ranks");
  number("--bandwidth", flags.times.bandwidth,
         "bytes in a unit of time; 0: a transfer takes the latency alone");
  number("--message-bytes", flags.times.message_bytes, "bytes of a transfer");
  number("--overlapped-cost", flags.times.overlapped,
         "time of an overlapped pair (DualPipe); below 0: the sum of the two");
  number("--overhead", flags.times.overhead, "time added to every action that computes");
  number("--recompute", flags.times.recompute, "share of the forward done again by the backward");
  number("--reduce", flags.times.reduce, "time of a stage's gradient reduction, with replicas");
  number("--update", flags.times.update, "time of a stage's optimizer step");
  command.add_flag("--transfers-block", flags.times.transfers_block,
                   "transfers occupy both ranks instead of overlapping their compute");
}

Costs costs_of(const CaseFlags& flags) {
  Costs costs = flags.times;
  check_usage(costs.bandwidth >= 0 && std::isfinite(costs.bandwidth), "--bandwidth is ",
              costs.bandwidth, "; it must be a number above 0");
  check_usage(costs.message_bytes >= 0 && std::isfinite(costs.message_bytes), "--message-bytes is ",
              costs.message_bytes, "; it must be a number of at least 0");
  check_usage((costs.bandwidth > 0) == (costs.message_bytes > 0),
              "--bandwidth and --message-bytes belong together; give both or neither");
  const std::vector<double> memory = three_numbers(flags.activation_memory, "--activation-memory");
  costs.memory_forward = {memory[0]};
  costs.memory_backward_input = {memory[1]};
  costs.memory_backward_weight = {memory[2]};
  if (is_costs_file(flags.costs)) {
    read_costs(flags.costs, costs);
    return costs;
  }
  const std::vector<double> times = three_numbers(flags.costs, "--costs");
  for (const double time : times)
    check_usage(time >= 0, "--costs ", flags.costs, ": ", time,
                " is no time; it must be 0 or more");
  costs.forward = {times[0]};
  costs.backward_input = {times[1]};
  costs.backward_weight = {times[2]};
  return costs;
}

std::vector<Schedule> cases_of(const CaseFlags& flags, const Costs& costs) {
  std::vector<Schedule> cases;
  std::vector<std::string> refusals;
  GeneratorOptions options = {
      .group_size = flags.group_size, .sequence_splits = flags.sequence_splits, .costs = costs};
  if (!flags.memory_limit.empty())
    options.memory_limit = parse_numbers(flags.memory_limit, "--memory-limit");
  for (const std::string& name : flags.names) {
    if (is_schedule_file(name)) {
      for (const CLI::Option* size : flags.sizes)
        check_usage(size->empty(), size->get_name(), " is decided by the file ", name,
                    "; leave it out");
      cases.push_back(read_schedule(name));
      cases.back().sequence_splits = std::max(1, flags.sequence_splits);
      continue;
    }
    for (const int ranks : parse_list(flags.ranks, "--ranks")) {
      for (const int stages : parse_list(flags.stages_per_rank, "--stages-per-rank")) {
        for (const int microbatches : parse_list(flags.microbatches, "--microbatches")) {
          options.ranks = ranks;
          options.stages_per_rank = stages;
          options.microbatches = microbatches;
          try {
            cases.push_back(make_schedule(name, options));
          } catch (const UsageError& error) {
            if (!is_known(name)) throw;
            refusals.emplace_back(error.what());
          }
        }
      }
    }
  }
  check_usage(!cases.empty() || refusals.empty(), join_text(refusals, "; "));
  for (const std::string& refusal : refusals) note("left out: " + refusal);
  return cases;
}

std::string heading(const std::string& command, const std::string& options) {
  return cat("# headrace ", HEADRACE_VERSION, " ", command, "\n# ", options, "\n");
}

void note(const std::string& text) {
  std::cerr << text << "\n";
}

}  // namespace headrace
