// The launcher's worker processes: starting them, hearing from them, ending them.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "headrace/launch/cause.h"
#include "headrace/launch/launch.h"
#include "headrace/launch/status.h"

namespace headrace {

class Processes {
 public:
  // Starts them all, or none: throws Error.
  Processes(const LaunchOptions& options, const StatusPage& page);
  ~Processes();  // kills what is left
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  // Takes note of who has ended, stopped or reported since the last call.
  void look();
  void signal_all(int signal);
  bool all_ended() const;
  bool any_failed() const { return failures_ > 0; }
  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  // Where reports arrive, for poll(); those that can still bring one.
  std::vector<int> report_fds() const;

 private:
  struct Process {
    pid_t pid = -1;
    int report_fd = -1;
    std::string heard;
  };

  void kill_rest();
  pid_t start(const LaunchOptions& options, const StatusPage& page, int rank, int report_fd);
  void hear(Process& process, Outcome& outcome);
  void reap(const Process& process, Outcome& outcome);

  std::vector<Process> processes_;
  std::vector<Outcome> outcomes_;
  int failures_ = 0;
};

}  // namespace headrace
