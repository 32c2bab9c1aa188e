// headrace checkpoint list|verify|diff: what checkpoints there are, whether one is whole, and what
// two differ in.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <toml++/toml.h>

#include "cli/commands.h"
#include "headrace/base/error.h"
#include "headrace/base/table.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/diff.h"
#include "headrace/checkpoint/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

void require_folder(const fs::path& path) {
  check_usage(fs::exists(path), path.string(), " is not there");
  check_usage(fs::is_directory(path), path.string(), " is no folder");
}

// What the run in that folder says of where its checkpoints are; empty: nothing.
fs::path directory_of_run(const fs::path& run) {
  const toml::parse_result config = toml::parse_file((run / "config.toml").string());
  return config["checkpoint"]["directory"].value_or(std::string());
}

// A run's folder, or the one that its checkpoints lie in.
fs::path directory_of(const fs::path& path) {
  require_folder(path);
  try {
    const fs::path other = fs::exists(path / "config.toml") && !fs::exists(path / "checksums.json")
                               ? directory_of_run(path)
                               : fs::path();
    if (!other.empty()) return other;
  } catch (const toml::parse_error&) {  // no run's
  }
  return fs::is_directory(path / "checkpoints") ? path / "checkpoints" : path;
}

void list(const fs::path& path, Format format) {
  const fs::path directory = directory_of(path);
  const std::vector<FoundCheckpoint> found = list_checkpoints(directory);
  check_usage(!found.empty(), "no checkpoints lie in ", directory.string());
  Table table({{.name = "step"}, {.name = "state"}, {.name = "size"}, {.name = "folder"}});
  for (const FoundCheckpoint& checkpoint : found) {
    const auto bytes = static_cast<std::int64_t>(checkpoint.bytes);
    table.add({checkpoint.step,
               checkpoint.complete ? "complete" : "not complete: " + checkpoint.why,
               format == Format::Text ? Cell(bytes_text(static_cast<double>(bytes))) : Cell(bytes),
               checkpoint.path.string()});
  }
  std::cout << table.print(format);
}

// Whether it is whole.
bool verify_one(const fs::path& folder) {
  const std::vector<std::string> faults = verify_checkpoint(folder);
  for (const std::string& fault : faults) std::cout << fault << "\n";
  std::cout << folder.string() << ": "
            << (faults.empty()
                    ? "whole"
                    : cat("NOT WHOLE: ", faults.size(), " fault", faults.size() > 1 ? "s" : ""))
            << "\n";
  return faults.empty();
}

// One checkpoint, or all of a run but those that have not got their name.
bool verify(const fs::path& path) {
  require_folder(path);
  const fs::path directory = directory_of(path);
  const std::vector<FoundCheckpoint> found = list_checkpoints(directory);
  if (found.empty()) return verify_one(path);
  bool whole = true;
  for (const FoundCheckpoint& checkpoint : found) {
    if (checkpoint.path.has_extension()) {
      std::cout << checkpoint.path.string() << ": passed over: " << checkpoint.why << "\n";
    } else {
      whole = verify_one(checkpoint.path) && whole;
    }
  }
  return whole;
}

// Whether they are the same.
bool diff(const fs::path& a, const fs::path& b, Format format) {
  for (const fs::path& each : {a, b}) {
    require_folder(each);
    check_usage(!fs::exists(each / "checkpoints"), each.string(), " is a run; give one of the ",
                "folders in ", (each / "checkpoints").string());
  }
  Table table({{.name = "part"}, {.name = "name"}, {.name = "difference"}, {.name = "largest"}});
  const std::vector<NumberDiff> numbers = diff_states(a, b);
  for (const NumberDiff& number : numbers)
    table.add({"state", number.name, cat(number.a, " and ", number.b), ""});
  const std::vector<TensorDiff> tensors = diff_tensors(a, b);
  std::size_t differ = 0;
  for (const TensorDiff& tensor : tensors) {
    if (tensor.is_equal && format == Format::Text) continue;
    differ += tensor.is_equal ? 0 : 1;
    table.add({tensor.part, tensor.name, tensor.is_equal ? "equal" : tensor.how,
               tensor.how == "values" ? Cell(tensor.largest) : Cell("")});
  }
  const bool same = numbers.empty() && differ == 0;
  if (format != Format::Text || !same) std::cout << table.print(format);
  if (format == Format::Text)
    std::cout << (same ? cat("the same: ", tensors.size(), " tensors, to the bit\n")
                       : cat("\n", differ, " of ", tensors.size(), " tensors differ, and ",
                             numbers.size(), " of the state's numbers\n"));
  return same;
}

void add_format(CLI::App& command, const std::shared_ptr<std::string>& format) {
  command.add_option("--format", *format, "text, md, csv or json")->capture_default_str();
}

}  // namespace

void add_checkpoint(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("checkpoint", "List, verify and compare a run's checkpoints");
  command->require_subcommand(1);
  const auto format = std::make_shared<std::string>("text");
  const auto first = std::make_shared<std::string>();
  const auto second = std::make_shared<std::string>();

  CLI::App* listing = command->add_subcommand("list", "All checkpoints of a run, newest first");
  listing->add_option("run", *first, "the run's folder")->required()->type_name("RUN");
  add_format(*listing, format);
  listing->callback([=] { list(*first, parse_format(*format)); });

  CLI::App* verifying = command->add_subcommand(
      "verify", "Read every byte and say all that is wrong; exit code 1 if something is");
  verifying->add_option("folder", *first, "a checkpoint, or a run for all of its checkpoints")
      ->required()
      ->type_name("FOLDER|RUN");
  verifying->callback([=] {
    if (!verify(*first)) throw CLI::RuntimeError(1);
  });

  CLI::App* comparing = command->add_subcommand(
      "diff", "What two differ in, tensor by tensor; exit code 1 if they do");
  comparing->add_option("a", *first, "a checkpoint, or a folder of transformers'")
      ->required()
      ->type_name("A");
  comparing->add_option("b", *second, "the other")->required()->type_name("B");
  add_format(*comparing, format);
  comparing->callback([=] {
    if (!diff(*first, *second, parse_format(*format))) throw CLI::RuntimeError(1);
  });
}

}  // namespace headrace
