#include "headrace/launch/restart.h"

#include <cstdint>
#include <optional>
#include <string>

#include "headrace/base/error.h"

namespace headrace {

namespace {

struct Failure {
  int rank;
  std::int64_t step;
  std::string origin;  // where the run would go on
  std::string text;

  // What all ranks find out alike is told by any of them.
  bool is_the_same_as(const Failure& other) const {
    return step == other.step && origin == other.origin &&
           (rank == other.rank || text == other.text);
  }
};

}  // namespace

int launch_with_restarts(const RestartPolicy& policy) {
  std::optional<Failure> last;
  for (int restarts = 0;; ++restarts) {
    try {
      return launch(policy.options(restarts));
    } catch (const WorkerError& error) {
      if (policy.most == 0) throw;
      if (error.stop_signal != 0) {
        policy.say(cat(error.what(),
                       "; told to stop meanwhile, it is not started anew; it would go on from ",
                       policy.origin()));
        return 128 + error.stop_signal;
      }
      check(restarts < policy.most, error.what(), "; it was started anew ", restarts,
            restarts == 1 ? " time" : " times", ", as often as it may be");
      const Failure failure{error.rank, error.step, policy.origin(), error.what()};
      check(!last || !failure.is_the_same_as(*last), error.what(),
            "; it failed there before and has saved nothing since, so that it is not started anew");
      last = failure;
      policy.say(cat("restart ", restarts + 1, " of ", policy.most, ": ", error.what(),
                     "; going on from ", failure.origin));
    }
  }
}

}  // namespace headrace
