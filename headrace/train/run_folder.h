// The folder a run leaves behind: config.toml (the resolved configuration, enough to repeat the
// run), metrics.jsonl (one record a step) and, where asked for, timeline.json (a trace that opens
// in Perfetto).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "headrace/train/config/config.h"
#include "headrace/train/records.h"

namespace headrace {

// Its config.toml, by which a run can be resumed.
void write_run_config(const std::filesystem::path& folder, const Config& config);

class RunFolder {
 public:
  // The folder is config.run_dir, which this run must have claimed (run_claim.h). What an earlier
  // run has left in it is deleted; where this one resumes it, after `done` steps, only the records of
  // later steps are.
  RunFolder(const Config& config, std::int64_t done);

  const std::filesystem::path& path() const { return path_; }

  // Of steps before this run, where it resumes.
  std::int64_t records() const { return records_; }
  bool has_evaluation(std::int64_t step) const;
  // A line each, in metrics.jsonl and evaluations.jsonl (records.h).
  void record(const StepRecord& record);
  void record(const EvaluationRecord& record);
  // Written whole or not at all.
  void write(const std::string& file, const std::string& text) const;

 private:
  std::filesystem::path path_;
  std::ofstream metrics_;
  std::ofstream evaluations_;
  std::int64_t records_ = 0;
};

}  // namespace headrace
