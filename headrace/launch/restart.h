// A run whose workers are started anew when one of them has failed.
//
//   return launch_with_restarts({.most = 3, .options = …, .origin = …, .say = …});
#pragma once

#include <functional>
#include <string>

#include "headrace/launch/launch.h"

namespace headrace {

struct RestartPolicy {
  int most = 0;  // restarts
  // How to start the workers, anew each time: a port that an earlier attempt had may not be free yet.
  std::function<LaunchOptions(int restarts)> options;
  // Where workers that are started now go on from: a checkpoint, or the start.
  std::function<std::string()> origin;
  std::function<void(const std::string&)> say;  // a line for each restart
};

// As launch(), and 128 + signal where this process was told to stop while the others of a failed worker
// ended. The last failure is thrown where the restarts are used up, and so is one that comes
// again: of the same rank or with the same words, at the same step, with nothing saved in between.
// It would come each time.
int launch_with_restarts(const RestartPolicy& policy);

}  // namespace headrace
