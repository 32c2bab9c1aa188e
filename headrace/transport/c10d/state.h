// What the threads of one c10d rank share: the rank's own, its links' and the failures watch's.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "headrace/transport/transport.h"
#include "headrace/transport/wait_chain.h"

namespace headrace {

// Guarded by `mutex`, but for what is fixed before the threads start.
struct RunState {
  int rank = 0;
  int size = 1;
  std::vector<std::string> hosts;
  bool store_is_served = false;  // by the launcher, not by rank 0
  double clock_offset = 0;       // added to this host's clock; fixed once measured

  std::mutex mutex;
  std::condition_variable changed;  // wakes the rank's own thread
  double limit = 600;
  std::optional<Waiting> waiting;         // what the rank is blocked on, if it is
  std::optional<std::string> aborted;     // why
  std::optional<Failure> failure;         // the run's first, once it is known here
  std::optional<std::string> store_lost;  // why, once the store does not answer any more
  std::exception_ptr own_failure;         // the first of this rank's other threads, if any

  // Of this rank itself; for threads other than its own.
  void fail(std::exception_ptr why_failed);
  // Whether its waits are over. Wants the mutex held.
  bool is_over() const { return aborted || failure || store_lost || own_failure; }
};

// Seconds on the clock that the ranks share.
double shared_clock(const RunState& state);

// The text of an exception, without stack traces and source positions of torch and Gloo.
std::string brief(const std::exception& error);

}  // namespace headrace
