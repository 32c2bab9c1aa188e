// The local launcher: starts the ranks of a run as processes of this machine, waits for them, and
// when one fails ends all and says which and why.
//
//   const Listening listening = listen_on_free_port();
//   return launch({.workers = 4, .arguments = {argv, argv + argc}, .port = listening.port,
//                  .listen_fd = listening.fd});
//
// The program is run anew for each worker, with the same arguments and with what the worker needs
// to know in its environment: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR,
// MASTER_PORT, HEADRACE_WORKER; HEADRACE_RUN_DIR; HEADRACE_RESTARTS; HEADRACE_LISTEN_FD for rank 0;
// and what worker.h and status.h use. To be called before this process has made a thread. Output of workers passes
// through untouched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {

struct LaunchOptions {
  int workers = 1;
  std::vector<std::string> arguments;  // of this program, its own name first
  int port = 0;                        // where rank 0 is to listen
  int listen_fd = -1;                  // the socket that listens there, for rank 0
  std::string run_dir;                 // the run's folder, for the workers to know
  int lock_fd = -1;                    // the hold on it (run_claim.h), for rank 0 to have too
  int restarts = 0;                    // how often these workers were started before
  int threads = 0;                     // a worker; 0: OMP_NUM_THREADS, or cores ÷ workers
  double stop_grace = 15;              // seconds to end in after SIGINT or SIGTERM to this process
  double failure_grace = 5;            // seconds the others have to end in when one has failed
};

// A worker has failed; the text says who, where and why.
class WorkerError : public Error {
 public:
  WorkerError(const std::string& what, int of_rank, std::int64_t at_step, int told)
      : Error(what), rank(of_rank), step(at_step), stop_signal(told) {}
  int rank;
  std::int64_t step;  // the one it was at; -1: none yet
  int stop_signal;  // by which this process was told to stop while the others ended; 0: it was not
};

// 0 when all workers ended well; kStoppedExit (worker.h) when they stopped though nobody told this
// process to, or one was told before it had begun; 128 + signal when this process was told to stop by SIGINT, SIGTERM, SIGUSR1 or SIGHUP,
// which the workers get as SIGTERM. Throws WorkerError (UsageError where the worker's exit code was 2)
// with the one cause of a failure. No worker is left when it returns or throws.
int launch(const LaunchOptions& options);

}  // namespace headrace
