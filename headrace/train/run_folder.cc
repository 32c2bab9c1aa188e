#include "headrace/train/run_folder.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <optional>
#include <sstream>
#include <string>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/launch/run_claim.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kEvaluations = "evaluations.jsonl";

std::ofstream open(const fs::path& path) {
  std::ofstream file(path, std::ios::app);
  check(file.good(), "cannot write ", path.string(), "; choose another folder with --run-dir");
  return file;
}

void append(std::ofstream& file, const fs::path& path, const std::string& line) {
  if (!file.is_open()) file = open(path);
  file << line << '\n' << std::flush;
  check(file.good(), "cannot write ", path.string(), "; is the disk full?");
}

// Records of steps that are to be done again go, and so does a line that was not written whole.
// Returns how many stay.
std::int64_t keep_records(const fs::path& path, std::int64_t done) {
  if (!fs::exists(path)) return 0;
  std::istringstream in(read_file(path.string()));
  std::string kept;
  std::int64_t count = 0;
  for (std::string line; std::getline(in, line);) {
    const std::optional<std::int64_t> step = step_of_record(line);
    if (!step || *step > done || in.eof()) continue;
    kept += line + '\n';
    ++count;
  }
  write_file(path.string(), kept);
  return count;
}

}  // namespace

void write_run_config(const fs::path& folder, const Config& config) {
  write_file((folder / kRunFiles[0]).string(), cat(kRunMark, "\n\n", to_toml(config)));
}

RunFolder::RunFolder(const Config& config, std::int64_t done) : path_(config.run_dir) {
  if (config.resume != Resume::No) {
    records_ = keep_records(path_ / kMetrics, done);
    keep_records(path_ / kEvaluations, done);
  } else {
    clear_run(path_);
  }
  write_run_config(path_, config);
  metrics_ = open(path_ / kMetrics);
}

bool RunFolder::has_evaluation(std::int64_t step) const {
  std::ifstream file(path_ / kEvaluations);
  for (std::string line; std::getline(file, line);)
    if (step_of_record(line) == step) return true;
  return false;
}

void RunFolder::record(const StepRecord& record) {
  append(metrics_, path_ / kMetrics, to_json(record));
}

void RunFolder::record(const EvaluationRecord& record) {
  append(evaluations_, path_ / kEvaluations, to_json(record));
}

void RunFolder::write(const std::string& file, const std::string& text) const {
  write_file((path_ / file).string(), text);
}

}  // namespace headrace
