#include "headrace/launch/restart.h"

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "headrace/base/error.h"

namespace headrace {

int launch_with_restarts(const RestartPolicy& policy) {
  using Failure = std::tuple<int, std::int64_t, std::string>;  // rank, step, where it would go on
  std::optional<Failure> last;
  for (int restarts = 0;; ++restarts) {
    try {
      return launch(policy.options(restarts));
    } catch (const WorkerError& error) {
      if (policy.most == 0) throw;
      check(restarts < policy.most, error.what(), "; it was started anew ", restarts,
            restarts == 1 ? " time" : " times", ", as often as it may be");
      const std::string origin = policy.origin();
      const Failure failure{error.rank, error.step, origin};
      check(last != failure, error.what(),
            "; it failed there before and has saved nothing since, so that it is not started anew");
      last = failure;
      policy.say(cat("restart ", restarts + 1, " of ", policy.most, ": ", error.what(),
                     "; going on from ", origin));
    }
  }
}

}  // namespace headrace
