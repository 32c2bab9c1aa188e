#include "headrace/launch/cause.h"

#include <csignal>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <string.h>

#include "headrace/base/error.h"
#include "headrace/launch/status.h"

namespace headrace {
namespace {

// A worker that says what went wrong may do so a moment before a peer is seen to be dead.
constexpr double kWaitForDeath = 0.2;
// A worker that lost a peer may say so long before the peer has said why.
constexpr double kWaitForPeer = 2;

using Test = std::function<bool(int rank, const Outcome&)>;

// The first to fail of those that pass the test; -1 for none.
int first(const std::vector<Outcome>& outcomes, const Test& test) {
  int found = -1;
  for (int rank = 0; rank < static_cast<int>(outcomes.size()); ++rank) {
    const auto& outcome = outcomes[static_cast<std::size_t>(rank)];
    if (!outcome.failed() || !test(rank, outcome)) continue;
    if (found < 0 || outcome.order < outcomes[static_cast<std::size_t>(found)].order) found = rank;
  }
  return found;
}

std::string signal_text(int signal) {
  const char* name = ::strsignal(signal);
  std::string text = cat("signal ", signal, " (", name == nullptr ? "unknown" : name, ")");
  if (signal == SIGKILL) text += ", as the system does when memory runs out";
  return text;
}

}  // namespace

std::optional<Cause> find_cause(const std::vector<Outcome>& outcomes,
                                const std::vector<Status>& statuses,
                                double seconds) {
  const auto outcome = [&](int rank) -> const Outcome& {
    return outcomes[static_cast<std::size_t>(rank)];
  };
  const auto status = [&](int rank) -> const Status& {
    return statuses[static_cast<std::size_t>(rank)];
  };
  const auto known = [&](int rank) {
    return rank >= 0 && rank < static_cast<int>(outcomes.size());
  };
  bool all_ended = true;
  for (const Outcome& o : outcomes) all_ended = all_ended && o.ended;

  const int killed =
      first(outcomes, [](int, const Outcome& o) { return o.signal != 0 && !o.reported; });
  if (killed >= 0)
    return Cause{.rank = killed,
                 .exit_code = 1,
                 .text = cat(who(killed, status(killed)), " was killed by ",
                             signal_text(outcome(killed).signal), " ", where(status(killed)))};

  const int own =
      first(outcomes, [](int rank, const Outcome& o) { return o.reported && o.at_fault == rank; });
  if (own >= 0 && (seconds >= kWaitForDeath || all_ended))
    return Cause{.rank = own, .exit_code = outcome(own).reported_code, .text = outcome(own).text};

  if (seconds < kWaitForPeer && !all_ended) return std::nullopt;
  const int silent = first(outcomes, [](int, const Outcome& o) { return !o.reported; });
  if (silent >= 0)
    return Cause{
        silent, outcome(silent).exit_code == 2 ? 2 : 1,
        cat(who(silent, status(silent)), " ended with exit code ", outcome(silent).exit_code, " ",
            where(status(silent)), " without saying why; its last output may tell")};

  // Only echoes: of a chain of ranks that blame the next, the end is the cause.
  int echo = first(outcomes, [&](int, const Outcome& o) {
    return !known(o.at_fault) || !outcome(o.at_fault).reported;
  });
  if (echo < 0) echo = first(outcomes, [](int, const Outcome&) { return true; });
  if (echo < 0) return std::nullopt;
  Cause cause{.rank = echo, .exit_code = outcome(echo).reported_code, .text = outcome(echo).text};
  const int blamed = outcome(echo).at_fault;
  if (known(blamed) && !outcome(blamed).ended)
    cause.text += cat("; ", who(blamed, status(blamed)), " is ",
                      outcome(blamed).stopped ? "stopped (as by SIGSTOP)" : "alive", ", last seen ",
                      where(status(blamed)));
  return cause;
}

}  // namespace headrace
