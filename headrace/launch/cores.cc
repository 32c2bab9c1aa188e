#include "headrace/launch/cores.h"

#include <algorithm>

#include <sched.h>

namespace headrace {

int available_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

CoresOfWorker::CoresOfWorker(int number, int workers, int threads) {
  CPU_ZERO(&before_);
  if (::sched_getaffinity(0, sizeof before_, &before_) != 0) return;
  if (workers * threads != CPU_COUNT(&before_)) return;
  cpu_set_t share;
  CPU_ZERO(&share);
  int place = 0;  // of a core among those available
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &before_)) continue;
    if (place / threads == number) CPU_SET(core, &share);
    ++place;
  }
  bound_ = ::sched_setaffinity(0, sizeof share, &share) == 0;
}

CoresOfWorker::~CoresOfWorker() {
  if (bound_) ::sched_setaffinity(0, sizeof before_, &before_);
}

}  // namespace headrace
