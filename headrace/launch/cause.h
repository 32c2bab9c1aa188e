// Which of several failing workers was the cause: the launcher's judgement, apart from processes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headrace/launch/status.h"
#include "headrace/launch/worker.h"

namespace headrace {

struct Outcome {
  bool ended = false;
  int exit_code = 0;  // where it exited
  int signal = 0;     // where it was killed by one
  bool ended_by_us = false;
  bool stopped = false;  // alive, but stopped as by SIGSTOP
  // What it reported (worker.h): whom it blames, its exit code and the text.
  bool reported = false;
  int at_fault = -1;
  int reported_code = 1;
  std::string text;
  // Failures are numbered in the order in which the launcher saw them.
  int order = 0;

  bool failed() const {
    const bool badly = signal != 0 || (exit_code != 0 && exit_code != kStoppedExit);
    return reported || (ended && !ended_by_us && badly);
  }
};

struct Cause {
  int rank = -1;
  int exit_code = 1;
  std::string text;  // what follows "error: "
};

// The cause, or none where it is better to wait for more to be known. `seconds` since the first
// failure was seen; `statuses` by rank.
std::optional<Cause> find_cause(const std::vector<Outcome>& outcomes,
                                const std::vector<Status>& statuses,
                                double seconds);

}  // namespace headrace
