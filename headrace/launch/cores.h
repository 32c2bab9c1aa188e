// Gives each worker of a run cores of its own, where there are just as many cores as the workers
// have threads: left to itself the system wakes a rank's helper threads on its neighbour's core, or
// two ranks on one, and a small message then takes milliseconds.
#pragma once

#include <sched.h>

namespace headrace {

// Cores that this process may use.
int available_cores();

// While it lives, what this thread starts runs on the share of worker `number` of `workers` with
// `threads` threads each. Does nothing where workers × threads is not the number of available
// cores.
class CoresOfWorker {
 public:
  CoresOfWorker(int number, int workers, int threads);
  ~CoresOfWorker();
  CoresOfWorker(const CoresOfWorker&) = delete;
  CoresOfWorker& operator=(const CoresOfWorker&) = delete;

 private:
  cpu_set_t before_;
  bool bound_ = false;
};

}  // namespace headrace
