// A run's hold on its folder, which one process decides before any other starts: while it lasts, no
// other run gets the folder.
//
//   const RunClaim claim = RunClaim::named("runs/one", false);   // --run-dir runs/one
//   const RunClaim claim = RunClaim::next("runs/shakespeare");   // or runs/shakespeare-2, …
//   const RunClaim claim = RunClaim::resumed("runs/one");        // --resume runs/one
//
// The hold is a lock on the file .lock in the folder: the kernel frees it when the processes that
// have it end, however they end. Where a file system takes no locks, runs that are under way at the
// same time are not kept apart.
#pragma once

#include <array>
#include <filesystem>
#include <string_view>

namespace headrace {

// What a run writes into its folder; all that --overwrite deletes. The last is a folder.
inline constexpr std::array<const char*, 6> kRunFiles = {"config.toml",   "schedule.csv",
                                                         "metrics.jsonl", "evaluations.jsonl",
                                                         "timeline.json", "checkpoints"};
// The first line of a run's config.toml, which tells it from one that somebody wrote.
inline constexpr std::string_view kRunMark =
    "# The configuration of a run of headrace: headrace train repeats the run from this file.";

// Deletes what a run has left in the folder, but for its config.toml, which says that it is a run's.
void clear_run(const std::filesystem::path& folder);

class RunClaim {
 public:
  // The folder itself, made if need be; files of others may lie in it. Throws UsageError where a
  // run that is under way has it; where a run has left records in it, unless they are to be
  // overwritten; and where a file lies there that the run would replace and no run wrote.
  static RunClaim named(const std::filesystem::path& folder, bool overwrite);
  // The folder of a run that goes on; everything in it stays. Throws UsageError where no run has left
  // one, and where a run that is under way has it.
  static RunClaim resumed(const std::filesystem::path& folder);
  // The first of folder, folder-2, folder-3, … that is new, or that a run which has recorded
  // nothing left behind.
  static RunClaim next(const std::filesystem::path& folder);

  ~RunClaim();
  RunClaim(RunClaim&& other) noexcept;
  RunClaim& operator=(RunClaim&& other) noexcept;

  const std::filesystem::path& folder() const { return folder_; }
  // A process that inherits it has the hold too.
  int lock_fd() const { return fd_; }

 private:
  RunClaim(std::filesystem::path folder, int fd);

  std::filesystem::path folder_;
  int fd_;  // -1: the file system takes no locks
};

}  // namespace headrace
