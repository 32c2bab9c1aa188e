// The folder a run leaves behind: config.toml (the resolved configuration, enough to repeat the
// run), metrics.jsonl (one record a step) and, where asked for, timeline.json (a trace that opens
// in Perfetto).
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "headrace/train/config/config.h"
#include "headrace/train/console.h"

namespace headrace {

class RunFolder {
 public:
  // The folder is config.run_dir, which this run must have claimed (run_claim.h): what an earlier
  // run has left in it is deleted.
  explicit RunFolder(const Config& config);

  const std::filesystem::path& path() const { return path_; }

  // {"step":12,"loss":2.41234567,"grad_norm":…,"lr":…,"tokens":…,"seconds":…}
  void record(const StepLine& line);
  // {"step":12,"validation_loss":…,"perplexity":…,"accuracy":…}, in evaluations.jsonl.
  void record_evaluation(std::int64_t step, double loss, double perplexity, double accuracy);
  // Written whole or not at all.
  void write(const std::string& file, const std::string& text) const;

 private:
  std::filesystem::path path_;
  std::ofstream metrics_;
  std::ofstream evaluations_;
};

}  // namespace headrace
