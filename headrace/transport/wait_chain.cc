#include "headrace/transport/wait_chain.h"

#include <algorithm>
#include <cassert>
#include <iomanip>

namespace headrace {

std::string to_string(const Waiting& waiting) {
  return waiting.to_send ? cat("to send ", to_string(waiting.label))
                         : cat("for ", to_string(waiting.label));
}

AtFault find_at_fault(int rank,
                      double seconds,
                      const std::vector<std::optional<Waiting>>& waits,
                      const std::vector<std::string>& hosts) {
  const auto wait_of = [&](int r) -> const std::optional<Waiting>& {
    return waits[static_cast<std::size_t>(r)];
  };
  assert(wait_of(rank));
  std::vector<int> chain = {rank};
  int next = wait_of(rank)->peer;
  while (std::find(chain.begin(), chain.end(), next) == chain.end() && wait_of(next)) {
    chain.push_back(next);
    next = wait_of(next)->peer;
  }
  const auto circle = std::find(chain.begin(), chain.end(), next);
  if (circle != chain.end()) {
    std::string what = "ranks wait for one another:";
    for (auto it = circle; it != chain.end(); ++it) {
      const Waiting& wait = *wait_of(*it);
      what += cat(it == circle ? " rank " : ", rank ", *it, " ", to_string(wait),
                  wait.to_send ? " to" : " from", " rank ", wait.peer);
    }
    return {next, what};
  }
  const Waiting& last = *wait_of(chain.back());
  return {next,
          cat("rank ", next, " (host ", hosts[static_cast<std::size_t>(next)], ") ",
              last.to_send ? "received" : "sent", " nothing for ", std::fixed, std::setprecision(1),
              seconds, " s: rank ", chain.back(), " waited ", to_string(last))};
}

}  // namespace headrace
